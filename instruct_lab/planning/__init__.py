"""Predict memory, computation, time and cost of a run on a device, even if this machine does not have the device.

Input: the run's configuration, the lengths of its examples, and the description of a device (`devices/*.yaml`). Output:
an `Estimate`. The model is built without memory for its weights. Its training steps are executed on tensors that have
shapes but no values (torch's fake tensors), by the run's own objective, tuning method and optimizer. If the code of one
of these components changes, the estimate changes with it, and no formula has to be adapted.
"""
