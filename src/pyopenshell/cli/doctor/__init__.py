"""`openshell doctor`: what holds on this machine, tried and not assumed."""
