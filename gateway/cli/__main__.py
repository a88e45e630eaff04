"""`python -m gateway.cli` is `kindred`."""

import sys

from gateway.cli.main import main

sys.exit(main())
