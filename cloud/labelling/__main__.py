"""`python -m culling.cloud.labelling`: the resident worker, in a process of its own."""

import sys

from culling.cloud.labelling.process import main

sys.exit(main())
