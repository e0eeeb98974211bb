"""`python -m culling.cloud.round`: one round, in a process of its own."""

import sys

from culling.cloud.round.process import main

sys.exit(main())
