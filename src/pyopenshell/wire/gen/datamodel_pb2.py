"""Messages of datamodel.proto; types in the stub beside this file."""

from pyopenshell.wire import gen

gen.build("datamodel.proto", globals())
