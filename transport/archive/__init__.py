"""The archive: topics as Parquet files with checksums, in a folder or at any fsspec URL.

    <topic>/<id of the topic>/<partition>/
        00000000000000000000-00000000000000050000.1f2e3d4c5b6a7988.parquet    a range of offsets, never changed
        manifest.json                                                         the files, with sha256; replaced whole

    layout.py     where things are, and the manifest        parquet.py    records to a file and back
    writing.py    what a topic has and the archive lacks    reading.py    a partition of the archive as a log
    checking.py   whether every file is what was written

The manifest is written after the file that it names. So whenever the process is killed, the archive ends before the
file or after it, and the next run continues there.
"""
