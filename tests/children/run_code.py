"""Runs the code it is given."""

import sys

exec(sys.argv[1])
