"""The jars of the local Kafka and Neo4j: a locked list in, files in the user's cache folder out.

    deploy/local/kafka.lock ──> missing or damaged? ──jgo──> <name>.part folder ──sha256──> rename ──> cache

Nothing is loaded that doesn't match its sha256 in the list, whether it was just fetched or lay in the cache.
One process fetches at a time; a second one waits for it and finds the files.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import shutil
import tempfile
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from schemas.errors import BadConfiguration, RetryLater
