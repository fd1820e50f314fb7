"""Messages of pyopenshell.proto; types in the stub beside this file."""

from pyopenshell.wire import gen

gen.build("pyopenshell.proto", globals())
