"""Programs that callgate starts outside of every sandbox: which file a name stands for, with which environment."""
