//! The metrics of the process itself.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

/// What the kernel tells of this process, under the names that Prometheus' own clients use.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        // Where there is no /proc, there are no such metrics.
        let Ok(process) = procfs::process::Process::myself() else { return Ok(()) };
        let Ok(stat) = process.stat() else { return Ok(()) };
        let ticks = f64::from(u32::try_from(procfs::ticks_per_second()).unwrap_or(u32::MAX));
        let seconds = |ticked: u64| ticked as f64 / ticks;
        let cpu = ConstCounter::new(seconds(stat.utime.saturating_add(stat.stime)));
        let (name, help) = ("process_cpu", "User and system time spent");
        cpu.encode(encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Counter)?)?;
        let resident = stat.rss.saturating_mul(procfs::page_size());
        let started = procfs::boot_time_secs().ok().map(|boot| boot as f64 + seconds(stat.starttime));
        let files = process.fd_count().ok().map(|count| count as f64);
        let gauges = [
            ("process_resident_memory_bytes", "Resident memory in bytes", Some(resident as f64)),
            ("process_virtual_memory_bytes", "Virtual memory in bytes", Some(stat.vsize as f64)),
            ("process_start_time_seconds", "When the process started, in seconds since 1970", started),
            ("process_open_fds", "Open file descriptors", files),
        ];
        for (name, help, value) in gauges {
            if let Some(value) = value {
                let gauge = ConstGauge::new(value);
                gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
            }
        }
        Ok(())
    }
}
