"""The public names; `cnnzoo` shows them as its own and imports this file when the first of them is used."""

from cnnzoo import initialization as initialization
from cnnzoo import nn as nn
from cnnzoo.anatomy import freeze as freeze
from cnnzoo.anatomy import layers as layers
from cnnzoo.anatomy import parameters as parameters
from cnnzoo.anatomy import truncate as truncate
from cnnzoo.anatomy import unfreeze as unfreeze
from cnnzoo.chain import CNN as CNN
from cnnzoo.chain import AuxiliaryCNN as AuxiliaryCNN
from cnnzoo.errors import CheckpointError as CheckpointError
from cnnzoo.errors import CnnzooError as CnnzooError
from cnnzoo.errors import DataError as DataError
from cnnzoo.errors import OptionError as OptionError
from cnnzoo.errors import ShapeError as ShapeError
from cnnzoo.errors import UnknownNameError as UnknownNameError
from cnnzoo.initialization import initialize as initialize
from cnnzoo.models import *
from cnnzoo.registry import ModelName as ModelName
from cnnzoo.registry import ModelSpec as ModelSpec
from cnnzoo.registry import Paper as Paper
from cnnzoo.registry import list_models as list_models
from cnnzoo.registry import register as register
from cnnzoo.registry import spec as spec
from cnnzoo.shapes.field import ReceptiveField as ReceptiveField
from cnnzoo.shapes.formula import output_size as output_size
from cnnzoo.shapes.probe import LayerShape as LayerShape
from cnnzoo.shapes.probe import ProbeWarning as ProbeWarning
from cnnzoo.shapes.probe import infer_shapes as infer_shapes
from cnnzoo.shapes.probe import min_input_size as min_input_size
from cnnzoo.shapes.receptive import receptive_field as receptive_field
from cnnzoo.shapes.summary import Summary as Summary
from cnnzoo.shapes.summary import summary as summary
from cnnzoo.verification import Verification as Verification
from cnnzoo.verification import verify as verify
from cnnzoo.zoo import create as create
from cnnzoo.zoo import load_pretrained as load_pretrained
