"""`python -m culling.cloud.control.ray`: one round in a cluster of Ray, watched from here."""

import sys

from culling.cloud.control.ray.driver import main

sys.exit(main())
