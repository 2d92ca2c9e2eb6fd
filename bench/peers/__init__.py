"""Other gateways: how to install them, and the configuration they are measured with."""
