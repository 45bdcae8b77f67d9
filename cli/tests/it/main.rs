//! The command, run as a user runs it, on the captured kernels of `tests/fixtures` and
//! on the running one.

#[path = "../../../tests/it/support/btf.rs"]
mod btf;
#[path = "../../../tests/it/support/capture.rs"]
mod capture;
mod command;
#[cfg(target_os = "linux")]
#[path = "../../../tests/it/support/live.rs"]
mod namespace;
#[path = "../../../tests/it/support/perf_data.rs"]
mod perf_data;
mod support;
#[path = "../../../tests/it/support/trace_dat.rs"]
mod trace_dat;

#[cfg(target_os = "linux")]
mod attach;
#[cfg(target_os = "linux")]
mod attach_faults;
mod attach_hotplug;
mod audit;
#[cfg(target_os = "linux")]
mod bench;
#[cfg(target_os = "linux")]
mod captures;
#[cfg(target_os = "linux")]
mod catalog;
mod decode;
mod diff;
mod explain;
mod explore;
#[cfg(target_os = "linux")]
mod faults;
mod generated;
mod images;
mod list_format;
#[cfg(target_os = "linux")]
mod live;
#[cfg(target_os = "linux")]
mod pinned;
#[cfg(target_os = "linux")]
mod privileges;
#[cfg(target_os = "linux")]
mod processes;
mod raw;
mod readme;
mod recorded;
mod recorded_by_perf;
mod schema;
#[cfg(target_os = "linux")]
mod stacks;
#[cfg(target_os = "linux")]
mod system_calls;
#[cfg(target_os = "linux")]
mod unprivileged;
mod written;
mod written_ctf;
mod written_perfetto;
