"""Scripts of developers: generated files and lock files. Nothing at run time imports them."""
