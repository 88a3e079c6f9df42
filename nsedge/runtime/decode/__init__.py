"""The decode engine: scheduler, slots, prefix index, sampler and step loop."""
