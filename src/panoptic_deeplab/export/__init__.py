"""One file that runs anywhere: the network, or the whole pipeline, for other runtimes."""
