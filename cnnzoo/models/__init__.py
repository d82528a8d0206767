"""The networks: one file for each paper. Importing a file registers its constructors."""

from cnnzoo.models.captcha import *
from cnnzoo.models.lenet import *
from cnnzoo.models.tutorials import *
