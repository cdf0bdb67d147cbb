"""Provider name -> transport class: entry points found by name, loaded one at a time, checked against the interface."""
