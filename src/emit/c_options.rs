//! The options for emitted C.

/// Options for emitting C.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct COptions {
    pub(super) preserve_access_index: bool,
    pub(super) assertions: bool,
    pub(super) contexts_only: bool,
    pub(super) surroundings: CSurroundings,
}

/// The headers that emitted text is compiled together with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CSurroundings {
    /// None: every type that a struct needs is defined under the kernel's name.
    #[default]
    None,
    /// Headers of the system, such as libc's, which define some of the kernel's names
    /// (`dev_t`, `bool`, `struct in6_addr`), and not always as the kernel does. Only
    /// structs of contexts are defined, and for CO-RE enums under names that end with
    /// `___plain`. Other members are integers, `void *`, and arrays of bytes for structs
    /// and unions, which libbpf then refuses to relocate.
    SystemHeaders,
    /// The kernel's `vmlinux.h`, which has the structs of vmlinux's events. Other structs,
    /// those of modules' events and those without a name in the kernel, are defined as for
    /// [`SystemHeaders`](Self::SystemHeaders). Assertions check that `vmlinux.h` has the
    /// kernel's layout, except for CO-RE, which takes any kernel's.
    Vmlinux,
}

/// Assertions are on, everything else is off.
impl Default for COptions {
    fn default() -> Self {
        Self {
            preserve_access_index: false,
            assertions: true,
            contexts_only: false,
            surroundings: CSurroundings::None,
        }
    }
}

impl COptions {
    /// Marks every struct `preserve_access_index`, so that libbpf relocates reads to the
    /// kernel the program is loaded on (CO-RE). Default: off.
    #[must_use]
    pub fn preserve_access_index(mut self, yes: bool) -> Self {
        self.preserve_access_index = yes;
        self
    }

    /// Omits the types that the context structs need, for a file that gets them from
    /// elsewhere. Default: off.
    #[must_use]
    pub fn contexts_only(mut self, yes: bool) -> Self {
        self.contexts_only = yes;
        self
    }

    /// Asserts the size of every context struct, and the offset and size of each of its
    /// members. Together with
    /// [`preserve_access_index`](Self::preserve_access_index) only structs that have the
    /// kernel's layout in a program are asserted, which excludes those with a `long` or a
    /// pointer of a 32-bit kernel. Default: on.
    #[must_use]
    pub fn assertions(mut self, yes: bool) -> Self {
        self.assertions = yes;
        self
    }

    /// Sets the headers that the text is compiled together with. Default: none.
    #[must_use]
    pub fn beside(mut self, surroundings: CSurroundings) -> Self {
        self.surroundings = surroundings;
        self
    }
}
