"""Messages of options.proto; types in the stub beside this file."""

from pyopenshell.wire import gen

gen.build("options.proto", globals())
