//! What a group's processes have used, in the shape that runc's events have.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::{Resctrl, SCHEMATA};
use crate::failure::{Context, Result};

impl Resctrl {
    /// Of the group at `path`; `monitor` is the one that counts for the container alone, if there is one.
    pub(crate) fn stats(&self, path: &Path, monitor: Option<&Path>) -> Result<Value> {
        let mut out = json!({});
        let own = lines(path)?;
        let all = lines(&self.root)?;
        if self.has_cache() {
            let info = self.root.join("info/L3");
            out["l3_cache_info"] = json!({
                "cbm_mask": word(&info.join("cbm_mask"))?,
                "min_cbm_bits": number(&info.join("min_cbm_bits"))?,
                "num_closids": number(&info.join("num_closids"))?,
            });
            out["l3_cache_schema_root"] = line_of(&all, "L3");
            out["l3_cache_schema"] = line_of(&own, "L3");
        }
        if self.has_bandwidth() {
            let info = self.root.join("info/MB");
            out["mem_bw_info"] = json!({
                "bandwidth_gran": number(&info.join("bandwidth_gran"))?,
                "delay_linear": number(&info.join("delay_linear"))?,
                "min_bandwidth": number(&info.join("min_bandwidth"))?,
                "num_closids": number(&info.join("num_closids"))?,
            });
            out["mem_bw_schema_root"] = line_of(&all, "MB");
            out["mem_bw_schema"] = line_of(&own, "MB");
        }
        out["schemata"] = json!(own);
        self.monitored(monitor.unwrap_or(path), &mut out)?;
        Ok(out)
    }

    /// Numbers by domain of the cache, as far as this machine counts.
    fn monitored(&self, group: &Path, out: &mut Value) -> Result<()> {
        let features = fs::read_to_string(self.root.join("info/L3_MON/mon_features"));
        let features = features.unwrap_or_default();
        let has = |name: &str| features.lines().any(|line| line == name);
        let (total, local) = (has("mbm_total_bytes"), has("mbm_local_bytes"));
        let occupancy = has("llc_occupancy");
        if !(total || local || occupancy) {
            return Ok(());
        }
        let dir = group.join("mon_data");
        let reading = || format!("read {}", dir.display());
        let mut domains = Vec::new();
        for entry in fs::read_dir(&dir).context(reading)? {
            let path = entry.context(reading)?.path();
            domains.extend(path.is_dir().then_some(path));
        }
        domains.sort();
        let counted = |there: bool, domain: &Path, name: &str| {
            if there {
                number(&domain.join(name))
            } else {
                Ok(0)
            }
        };
        let (mut bandwidth, mut cache) = (Vec::new(), Vec::new());
        for domain in &domains {
            bandwidth.push(json!({
                "mbm_total_bytes": counted(total, domain, "mbm_total_bytes")?,
                "mbm_local_bytes": counted(local, domain, "mbm_local_bytes")?,
            }));
            cache.push(json!({ "llc_occupancy": counted(occupancy, domain, "llc_occupancy")? }));
        }
        if total || local {
            out["mbm_stats"] = json!(bandwidth);
        }
        if occupancy {
            out["cmt_stats"] = json!(cache);
        }
        Ok(())
    }
}

fn word(file: &Path) -> Result<String> {
    let text = fs::read_to_string(file).context(|| format!("read {}", file.display()))?;
    Ok(text.trim().to_owned())
}

fn number(file: &Path) -> Result<u64> {
    let text = word(file)?;
    text.parse()
        .context(|| format!("read {text:?} in {} as a number", file.display()))
}

fn lines(group: &Path) -> Result<Vec<String>> {
    let text = word(&group.join(SCHEMATA))?;
    Ok(text.lines().map(|line| line.trim().to_owned()).collect())
}

/// The last line about `resource`.
fn line_of(lines: &[String], resource: &str) -> Value {
    let about = |line: &&String| line.starts_with(resource);
    json!(lines.iter().rfind(about).cloned().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_from_where_the_container_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let file = dir.path().join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        };
        write("schemata", "    L3:0=fff\n    MB:0=100\n");
        write("c/schemata", "    L3:0=00f\n    MB:0= 20\n");
        for (name, text) in [
            ("cbm_mask", "fff"),
            ("min_cbm_bits", "1"),
            ("num_closids", "16"),
        ] {
            write(&format!("info/L3/{name}"), text);
        }
        write(
            "info/L3_MON/mon_features",
            "llc_occupancy\nmbm_total_bytes\nmbm_new_thing\n",
        );
        write("c/mon_data/mon_L3_00/llc_occupancy", "1\n");
        write("c/mon_data/mon_L3_00/mbm_total_bytes", "2\n");
        write("c/mon_groups/c/mon_data/mon_L3_00/llc_occupancy", "3\n");
        write("c/mon_groups/c/mon_data/mon_L3_00/mbm_total_bytes", "4\n");
        let machine = Resctrl::at(dir.path());
        let group = dir.path().join("c");
        let stats = machine.stats(&group, None).unwrap();
        assert_eq!(stats["l3_cache_info"]["cbm_mask"], "fff");
        assert_eq!(stats["l3_cache_schema"], "L3:0=00f");
        assert_eq!(stats["l3_cache_schema_root"], "L3:0=fff");
        assert_eq!(stats["mem_bw_info"], Value::Null);
        assert_eq!(stats["cmt_stats"], json!([{"llc_occupancy": 1}]));
        assert_eq!(
            stats["mbm_stats"],
            json!([{"mbm_total_bytes": 2, "mbm_local_bytes": 0}])
        );
        let alone = machine
            .stats(&group, Some(&group.join("mon_groups/c")))
            .unwrap();
        assert_eq!(alone["cmt_stats"], json!([{"llc_occupancy": 3}]));
        write("c/mon_data/mon_L3_00/llc_occupancy", "Unavailable\n");
        let error = machine.stats(&group, None).unwrap_err().chain();
        assert!(error.contains("\"Unavailable\""), "{error}");
    }
}
