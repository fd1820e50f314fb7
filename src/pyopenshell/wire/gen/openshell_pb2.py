"""Messages of openshell.proto; types in the stub beside this file."""

from pyopenshell.wire import gen

gen.build("openshell.proto", globals())
