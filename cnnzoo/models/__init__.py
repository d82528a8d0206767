"""The networks: one file for each paper. Importing a file registers its constructors."""

from cnnzoo.models.alexnet import *
from cnnzoo.models.bn_inception import *
from cnnzoo.models.captcha import *
from cnnzoo.models.captcha_crnn import *
from cnnzoo.models.cifar_resnet import *
from cnnzoo.models.googlenet import *
from cnnzoo.models.inception_resnet import *
from cnnzoo.models.inception_v3 import *
from cnnzoo.models.inception_v4 import *
from cnnzoo.models.lenet import *
from cnnzoo.models.preresnet import *
from cnnzoo.models.resnet import *
from cnnzoo.models.tutorials import *
from cnnzoo.models.vgg import *
