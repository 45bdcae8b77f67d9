//! Arguments of tracepoints that may be NULL, by the verifier's own list.
//!
//! Some kernels (Linux 6.13, and updates of older ones) list arguments that may be NULL, or the
//! number of an error, although BTF does not say so (`raw_tp_null_args` of
//! `kernel/bpf/btf.c`). They refuse `tp_btf` programs that load from such an argument without
//! comparing it with NULL, and from one that may be an error's number in any case. The list is
//! not in BTF, but its entries' struct is. All arguments of a module's tracepoint that is not in
//! the list are taken for such as may be NULL.
//!
//! The entries here are what the verifier of Linux 6.18.44 answered
//! ([`nullable_arguments`](crate::probe::nullable_arguments)) of every tracepoint built into it;
//! a test asks the running kernel's again.

use crate::text::KernelVersion;

/// The version of the kernel that was asked.
pub(super) const MEASURED: KernelVersion = KernelVersion::new(6, 18, 0);

/// The struct of the list's entries.
pub(super) const ENTRY: &[u8] = b"bpf_raw_tp_null_args";

/// A tracepoint's entry: the position of its argument that may be NULL.
#[rustfmt::skip]
const KNOWN: [(&str, u32); 58] = [
    ("break_lease_block", 1),
    ("break_lease_noblock", 1),
    ("break_lease_unblock", 1),
    ("ext4_mballoc_discard", 1),
    ("ext4_mballoc_free", 1),
    ("fcntl_setlk", 1),
    ("fib_table_lookup", 2),
    ("flock_lock_inode", 1),
    ("folio_wait_writeback", 1),
    ("generic_delete_lease", 1),
    ("hugetlbfs_alloc_inode", 1),
    ("kfree_skb", 3),
    ("locks_remove_posix", 1),
    ("mm_collapse_huge_page_isolate", 0),
    ("mm_khugepaged_collapse_file", 1),
    ("mm_khugepaged_scan_file", 1),
    ("mm_khugepaged_scan_pmd", 1),
    ("mm_page_alloc", 0),
    ("mm_page_alloc_zone_locked", 0),
    ("mm_page_pcpu_drain", 0),
    ("posix_lock_inode", 1),
    ("qdisc_dequeue", 3),
    ("sched_pi_setprio", 1),
    ("sched_stick_numa", 2),
    ("sched_swap_numa", 2),
    ("tcp_send_reset", 0),
    ("tcp_sendmsg_locked", 2),
    ("time_out_leases", 1),
    ("tmigr_update_events", 0),
    ("writeback_dirty_folio", 1),
    ("xfs_blockgc_flush_all", 0),
    ("xfs_blockgc_free_space", 1),
    ("xfs_blockgc_start", 0),
    ("xfs_blockgc_stop", 0),
    ("xfs_blockgc_worker", 0),
    ("xfs_btree_overlapped_query_range", 2),
    ("xfs_btree_updkeys", 2),
    ("xfs_defer_add_item", 0),
    ("xfs_defer_cancel_item", 0),
    ("xfs_defer_cancel_list", 0),
    ("xfs_defer_create_intent", 0),
    ("xfs_defer_finish_item", 0),
    ("xfs_defer_isolate_paused", 0),
    ("xfs_defer_item_pause", 0),
    ("xfs_defer_item_unpause", 0),
    ("xfs_defer_pending_abort", 0),
    ("xfs_defer_pending_finish", 0),
    ("xfs_defer_relog_intent", 0),
    ("xfs_fs_sync_fs", 0),
    ("xfs_inodegc_flush", 0),
    ("xfs_inodegc_push", 0),
    ("xfs_inodegc_queue", 0),
    ("xfs_inodegc_start", 0),
    ("xfs_inodegc_stop", 0),
    ("xfs_inodegc_throttle", 0),
    ("xfs_ioc_free_eofblocks", 1),
    ("xfs_map_blocks_alloc", 4),
    ("xfs_map_blocks_found", 4),
];

/// The verifier's word on an argument that a program loads from without a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listed {
    MayBeNull,
    /// It may be NULL on Linux 6.18, and this kernel's list may be another one.
    MayBeNullElsewhere,
    /// It is taken for one that may be NULL unless the list, which is not known as a whole, says
    /// otherwise.
    OfModule,
    Never,
}

/// The list of a kernel's verifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NullList {
    /// There is none.
    None,
    /// It has the entries that are known here.
    Known,
    /// It is that of a kernel before Linux 6.18, or of unknown version.
    Other,
}

impl NullList {
    /// Returns the verifier's word on an argument.
    pub(super) fn says(self, tracepoint: &str, is_of_module: bool, argument: u32) -> Listed {
        if self == Self::None {
            return Listed::Never;
        }
        let known = KNOWN.iter().find(|(name, _)| *name == tracepoint);
        match known {
            Some((_, position)) if *position == argument => match self {
                Self::Known => Listed::MayBeNull,
                _ => Listed::MayBeNullElsewhere,
            },
            Some(_) => Listed::Never,
            None if is_of_module => Listed::OfModule,
            None => Listed::Never,
        }
    }
}
