//! The words of the specification that stand for a kernel number.

use serde::{Deserialize, Serialize};

/// An enum with the specification's spelling and the kernel's number of each variant.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$about:meta])* $variant:ident = $text:literal => $number:expr,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$about])* #[serde(rename = $text)] $variant,)*
        }

        impl $name {
            /// All, in the order of the specification.
            pub const ALL: &[$name] = &[$($name::$variant),*];
            /// All spellings.
            pub const NAMES: &[&str] = &[$($text),*];

            /// The spelling.
            pub fn name(self) -> &'static str {
                match self { $($name::$variant => $text,)* }
            }

            /// The kernel's number.
            pub fn number(self) -> u32 {
                match self { $($name::$variant => $number as u32,)* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

words! {
    /// A kind of namespace; the number is the flag of clone(2).
    NamespaceType {
        /// cgroup_namespaces(7).
        Cgroup = "cgroup" => libc::CLONE_NEWCGROUP,
        /// ipc_namespaces(7).
        Ipc = "ipc" => libc::CLONE_NEWIPC,
        /// mount_namespaces(7).
        #[default]
        Mount = "mount" => libc::CLONE_NEWNS,
        /// network_namespaces(7).
        Network = "network" => libc::CLONE_NEWNET,
        /// pid_namespaces(7).
        Pid = "pid" => libc::CLONE_NEWPID,
        /// time_namespaces(7), Linux 5.6.
        Time = "time" => 0x80,
        /// user_namespaces(7).
        User = "user" => libc::CLONE_NEWUSER,
        /// uts_namespaces(7).
        Uts = "uts" => libc::CLONE_NEWUTS,
    }
}

words! {
    /// A kind of device node, as mknod(1) spells it; the number is the file type of mknod(2).
    DeviceType {
        /// Character device.
        #[default]
        Char = "c" => libc::S_IFCHR,
        /// Block device.
        Block = "b" => libc::S_IFBLK,
        /// The same as a character device.
        Unbuffered = "u" => libc::S_IFCHR,
        /// FIFO.
        Fifo = "p" => libc::S_IFIFO,
    }
}

words! {
    /// A resource of getrlimit(2); the numbers are the same on all architectures Rust's Linux
    /// targets share with x86-64 (asm-generic/resource.h).
    RlimitType {
        /// Seconds of processor time.
        Cpu = "RLIMIT_CPU" => 0,
        /// Bytes of a file.
        Fsize = "RLIMIT_FSIZE" => 1,
        /// Bytes of data.
        Data = "RLIMIT_DATA" => 2,
        /// Bytes of stack.
        Stack = "RLIMIT_STACK" => 3,
        /// Bytes of a core file.
        Core = "RLIMIT_CORE" => 4,
        /// Resident pages; without effect.
        Rss = "RLIMIT_RSS" => 5,
        /// Processes of the user.
        Nproc = "RLIMIT_NPROC" => 6,
        /// Open files.
        #[default]
        Nofile = "RLIMIT_NOFILE" => 7,
        /// Bytes of locked memory.
        Memlock = "RLIMIT_MEMLOCK" => 8,
        /// Bytes of address space.
        As = "RLIMIT_AS" => 9,
        /// File locks; without effect.
        Locks = "RLIMIT_LOCKS" => 10,
        /// Pending signals.
        Sigpending = "RLIMIT_SIGPENDING" => 11,
        /// Bytes in message queues.
        Msgqueue = "RLIMIT_MSGQUEUE" => 12,
        /// 20 minus the lowest nice value.
        Nice = "RLIMIT_NICE" => 13,
        /// Real-time priority.
        Rtprio = "RLIMIT_RTPRIO" => 14,
        /// Microseconds of real-time without a sleep.
        Rttime = "RLIMIT_RTTIME" => 15,
    }
}

words! {
    /// A policy of sched_setattr(2).
    SchedulerPolicy {
        /// The usual.
        #[default]
        Other = "SCHED_OTHER" => 0,
        /// Real-time, first in, first out.
        Fifo = "SCHED_FIFO" => 1,
        /// Real-time, round robin.
        Rr = "SCHED_RR" => 2,
        /// For batch work.
        Batch = "SCHED_BATCH" => 3,
        /// Reserved by the kernel, which refuses it.
        Iso = "SCHED_ISO" => 4,
        /// Only when the processor is otherwise idle.
        Idle = "SCHED_IDLE" => 5,
        /// By deadlines.
        Deadline = "SCHED_DEADLINE" => 6,
    }
}

words! {
    /// A flag of sched_setattr(2).
    SchedulerFlag {
        /// Children get the usual policy.
        #[default]
        ResetOnFork = "SCHED_FLAG_RESET_ON_FORK" => 0x01,
        /// Unused bandwidth may be reclaimed.
        Reclaim = "SCHED_FLAG_RECLAIM" => 0x02,
        /// SIGXCPU on overrun.
        DlOverrun = "SCHED_FLAG_DL_OVERRUN" => 0x04,
        /// The policy stays.
        KeepPolicy = "SCHED_FLAG_KEEP_POLICY" => 0x08,
        /// The parameters stay.
        KeepParams = "SCHED_FLAG_KEEP_PARAMS" => 0x10,
        /// A lower bound of utilisation.
        UtilClampMin = "SCHED_FLAG_UTIL_CLAMP_MIN" => 0x20,
        /// An upper bound of utilisation.
        UtilClampMax = "SCHED_FLAG_UTIL_CLAMP_MAX" => 0x40,
    }
}

words! {
    /// A class of ioprio_set(2).
    IoClass {
        /// Real-time.
        Rt = "IOPRIO_CLASS_RT" => 1,
        /// Best effort.
        #[default]
        Be = "IOPRIO_CLASS_BE" => 2,
        /// Only when the disk is idle.
        Idle = "IOPRIO_CLASS_IDLE" => 3,
    }
}

words! {
    /// An execution domain of personality(2).
    PersonalityDomain {
        /// The usual.
        #[default]
        Linux = "LINUX" => 0,
        /// uname(2) reports a 32-bit machine.
        Linux32 = "LINUX32" => 0x08,
    }
}

words! {
    /// A mode of set_mempolicy(2).
    MemoryMode {
        /// No policy.
        #[default]
        Default = "MPOL_DEFAULT" => 0,
        /// One preferred node.
        Preferred = "MPOL_PREFERRED" => 1,
        /// Only these nodes.
        Bind = "MPOL_BIND" => 2,
        /// Interleaved page by page across these nodes.
        Interleave = "MPOL_INTERLEAVE" => 3,
        /// The processor's own node.
        Local = "MPOL_LOCAL" => 4,
        /// Several preferred nodes (Linux 5.15).
        PreferredMany = "MPOL_PREFERRED_MANY" => 5,
        /// Interleaved by the nodes' weights (Linux 6.9).
        WeightedInterleave = "MPOL_WEIGHTED_INTERLEAVE" => 6,
    }
}

words! {
    /// A flag of set_mempolicy(2), to be ORed into the mode.
    MemoryFlag {
        /// Balanced among the nodes (Linux 5.12).
        NumaBalancing = "MPOL_F_NUMA_BALANCING" => 1 << 13,
        /// Nodes are relative to the allowed ones.
        RelativeNodes = "MPOL_F_RELATIVE_NODES" => 1 << 14,
        /// Nodes are the machine's own numbers, whatever the cpuset.
        #[default]
        StaticNodes = "MPOL_F_STATIC_NODES" => 1 << 15,
    }
}
