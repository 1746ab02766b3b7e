from clew.authoring import Pipeline as Pipeline
from clew.codecs import Codec as Codec
from clew.codecs import codec as codec
from clew.experiments import Trial as Trial
from clew.experiments import asha as asha
from clew.experiments import choice as choice
from clew.experiments import grid as grid
from clew.experiments import loguniform as loguniform
from clew.experiments import randint as randint
from clew.experiments import random as random
from clew.experiments import single as single
from clew.experiments import uniform as uniform
from clew.models import Candidate as Candidate
from clew.models import holdout as holdout
from clew.monitoring import drift as drift
from clew.quality import Table as Table
from clew.repos import File as File
from clew.sdk import connect as connect
from clew.serving import canary as canary
from clew.serving import immediate as immediate
from clew.sources import bucket as bucket
from clew.sources import database as database
from clew.sources import directory as directory
from clew.sources import kafka as kafka
from clew.sources import redis_stream as redis_stream
from clew.sources import webhook as webhook

__version__: str
