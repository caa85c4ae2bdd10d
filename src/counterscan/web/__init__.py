"""The web apps: the viewer of explanations and the reader study's server, thin skins over the library."""
