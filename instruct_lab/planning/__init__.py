"""Predict memory, computation, time and cost of a run on a device, even if this machine does not have the device.

Input: the run's configuration, the lengths of its examples, and the description of a device (`devices/*.yaml`). Output:
an `Estimate`. The model is built without memory for its weights, and its training steps are executed on tensors that
have shapes but no values (torch's fake tensors), with the objective, tuning method and optimizer of the run itself. If
one of these components changes, the estimate therefore changes with it, and no formula has to be adapted.
"""
