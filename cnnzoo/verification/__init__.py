"""`verify`: everything that a paper states of a network, beside what the network computes."""

from cnnzoo.verification.checking import printed_networks as printed_networks
from cnnzoo.verification.checking import verify as verify
from cnnzoo.verification.figures import QUANTITIES as QUANTITIES
from cnnzoo.verification.rows import COLUMNS as COLUMNS
from cnnzoo.verification.rows import Row as Row
from cnnzoo.verification.rows import Verification as Verification
from cnnzoo.verification.rows import agrees as agrees
