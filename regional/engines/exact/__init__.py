"""The nearest of many points, exactly."""
