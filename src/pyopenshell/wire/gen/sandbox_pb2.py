"""Messages of sandbox.proto; types in the stub beside this file."""

from pyopenshell.wire import gen

gen.build("sandbox.proto", globals())
