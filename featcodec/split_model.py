"""The networks around the wire."""
