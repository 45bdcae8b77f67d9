//! Kernels of the other byte order and of 32 bits.

mod all_the_way;
mod emitted;
