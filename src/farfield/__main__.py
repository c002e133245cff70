import sys

from farfield.cli import main

sys.exit(main())
