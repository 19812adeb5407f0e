//! Adapters, a file per service: wire types in, the core's types out, and back.
//! Nothing generated passes beyond this folder.
