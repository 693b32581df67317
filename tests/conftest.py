"""What all tests share: the event loop that the programs run on."""

import uvloop

# Whether a test file runs alone or with others, as the first import of an agent would install it anyway.
uvloop.install()
