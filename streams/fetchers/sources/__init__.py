"""Where a feed's bytes come from.

resource.py   a collection: one file with many events  <── http.py, package.py, folder.py
file_tree.py  a collection: many files, one event each <── git.py, folder.py
taxii.py      a TAXII 2.1 collection                   <── http.py
http.py       a file over HTTP                         <── connections.py, gunzip.py
"""
