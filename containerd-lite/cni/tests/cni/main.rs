//! The client against programs: Debian's plugins in a network of the test's
//! own, and plugins that misbehave.

mod fakes;
mod real;
