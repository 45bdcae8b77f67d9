//! Big-endian and 32-bit kernels.

mod all_the_way;
mod emitted;
