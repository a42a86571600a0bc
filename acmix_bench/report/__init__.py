"""What people read: tables and figures. `rounding` is the only place that rounds."""
