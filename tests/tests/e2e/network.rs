//! Network namespaces that an engine has prepared.

use std::fs;
use std::path::PathBuf;

use bulkhead_tests::{Bundle, Outcome, World, wait_until};
use serde_json::json;

/// A namespace with one end of a veth, as an engine makes it.
struct Namespace {
    name: String,
    host_link: String,
}

impl Namespace {
    /// The `n`-th of a test: the host has 10.88.n.1, the namespace 10.88.n.2.
    fn new(n: u8) -> Self {
        let namespace = Self {
            name: format!("bulkhead-test-{n}"),
            host_link: format!("bhtest{n}"),
        };
        let Self { name, host_link } = &namespace;
        ip(&format!(
            "netns add {name}
             link add {host_link} type veth peer name eth7 netns {name}
             addr add 10.88.{n}.1/24 dev {host_link}
             addr add fd88:{n}::1/64 dev {host_link} nodad
             link set {host_link} up
             -n {name} link set lo up
             -n {name} link set eth7 address 02:00:00:00:88:0{n} mtu 1400 up
             -n {name} addr add 10.88.{n}.2/24 brd + dev eth7
             -n {name} addr add fd88:{n}::2/64 dev eth7 nodad
             -n {name} route add default via 10.88.{n}.1 metric 100
             -n {name} route add 10.99.0.0/16 dev eth7
             -n {name} -6 route add default via fd88:{n}::1
             -n {name} neigh add 10.88.{n}.77 lladdr 02:00:00:00:77:77 dev eth7"
        ));
        namespace
    }

    fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// A container in it.
    fn container<'w>(&self, world: &'w World, script: &str) -> Bundle<'w> {
        let bundle = with_raw_sockets(world.bundle().shell(script));
        let namespaces = bundle.config["linux"]["namespaces"].as_array().unwrap();
        let others = namespaces.iter().filter(|n| n["type"] != "network");
        let others: Vec<_> = others.cloned().collect();
        bundle.set("/linux/namespaces", others.into()).push(
            "/linux/namespaces",
            json!({ "type": "network", "path": self.path() }),
        )
    }

    /// What `tc` and `ip` find of ours in it.
    fn traces(&self) -> String {
        let name = &self.name;
        sh(&format!(
            "tc -n {name} qdisc show | grep ingress; ip -n {name} -o link | grep bulkhead"
        ))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let Self { name, host_link } = self;
        // A veth goes with its other end.
        sh(&format!("ip link del {host_link}; ip netns del {name}"));
    }
}

fn sh(script: &str) -> String {
    let mut command = std::process::Command::new("sh");
    Outcome::of(command.args(["-c", script])).stdout
}

/// A namespace, and a world that is to leave it as it is.
fn setting(n: u8) -> (Namespace, World) {
    let namespace = Namespace::new(n);
    (namespace, World::new())
}

/// Adds the right to send what `ping` sends.
fn with_raw_sockets(mut bundle: Bundle<'_>) -> Bundle<'_> {
    for set in ["bounding", "effective", "permitted"] {
        bundle = bundle.push(
            &format!("/process/capabilities/{set}"),
            json!("CAP_NET_RAW"),
        );
    }
    bundle
}

/// Runs `ip` with the arguments of each line.
fn ip(lines: &str) {
    for line in lines.lines() {
        let mut command = std::process::Command::new("ip");
        let _ = Outcome::of(command.args(line.split_whitespace())).expect_code(0);
    }
}

#[test]
fn guest_has_what_the_namespace_had() {
    let (namespace, world) = setting(1);
    let script = "cat /sys/class/net/eth7/address /sys/class/net/eth7/mtu
        ip -o addr show eth7 | grep -o 'inet6* [^ ]*' | grep -v fe80
        ip route; ip -6 route | grep default; ip neigh show 10.88.1.77";
    let outcome = namespace.container(&world, script).run().expect_code(0);
    let lines: Vec<_> = outcome.stdout.lines().map(str::trim).collect();
    let expected = [
        "02:00:00:00:88:01",
        "1400",
        "inet 10.88.1.2/24",
        "inet6 fd88:1::2/64",
        "default via 10.88.1.1 dev eth7  metric 100",
        "10.88.1.0/24 dev eth7 scope link  src 10.88.1.2",
        "10.99.0.0/16 dev eth7 scope link",
        "default via fd88:1::1 dev eth7  metric 1024",
    ];
    assert_eq!(lines[..8], expected, "{outcome:#?}");
    assert!(lines[8].contains("02:00:00:00:77:77"), "{lines:?}");
    assert_eq!(namespace.traces(), "");
}

#[test]
fn host_and_guest_reach_each_other() {
    let (namespace, world) = setting(2);
    let script = "ping -c 1 -W 20 10.88.2.1 >/dev/null && ping -c 1 -W 20 fd88:2::1 >/dev/null \
        && echo reached; touch /listening; nc -l -p 80 >/received; md5sum </received; \
        nc 10.88.2.1 81 </received";
    let bundle = namespace.container(&world, script);
    let run = bundle.start();
    wait_until("it listens", || bundle.file("/listening").exists());
    let sent = world.path().join("sent");
    let sent = sent.display();
    let sums = sh(&format!(
        "head -c 10000000 /dev/urandom >'{sent}'
         # It would part with its peer at the end of its input.
         mkfifo '{sent}.in'; exec 9<>'{sent}.in'
         busybox nc -l -p 81 <&9 >'{sent}.back' &
         until busybox nc -w 5 10.88.2.2 80 <'{sent}'; do sleep 0.2; done
         wait $!; md5sum <'{sent}'; md5sum <'{sent}.back'"
    ));
    let outcome = run.wait().expect_code(0);
    let sums: Vec<_> = sums.lines().collect();
    assert_eq!(sums[0], sums[1], "{sums:#?} {outcome:#?}");
    assert_eq!(outcome.stdout, format!("reached\n{}\n", sums[0]));
}

#[test]
fn processors_have_queues_of_their_own() {
    let (namespace, world) = setting(12);
    let script = "ls /sys/class/net/eth7/queues | grep tx
        # Without input it would part with its peer at once.
        mkfifo /in; exec 9<>/in
        for port in 81 82 83 84; do nc -l -p $port <&9 >/received$port & done
        touch /listening; wait
        for port in 81 82 83 84; do md5sum </received$port; done
        for port in 81 82 83 84; do nc 10.88.12.1 $port </received$port & done; wait";
    let bundle = namespace.container(&world, script);
    let bundle = bundle.set("/annotations", json!({ "dev.bulkhead.vcpus": "2" }));
    let run = bundle.start();
    wait_until("it listens", || bundle.file("/listening").exists());
    let name = &namespace.name;
    let queues = sh(&format!(
        "ip netns exec {name} ls /sys/class/net/bulkhead0/queues | grep tx"
    ));
    assert_eq!(queues, "tx-0\ntx-1\n", "those in use");
    let sent = world.path().join("sent");
    let sent = sent.display();
    let sums = sh(&format!(
        "for port in 81 82 83 84; do
            head -c 3000000 /dev/urandom >'{sent}'$port
            # It would part with its peer at the end of its input.
            mkfifo '{sent}'.in$port
            exec 9<>'{sent}'.in$port
            busybox nc -l -p $port <&9 >'{sent}'.back$port &
            (until busybox nc -w 5 10.88.12.2 $port <'{sent}'$port; do sleep 0.2; done) &
        done
        wait
        for port in 81 82 83 84; do md5sum <'{sent}'$port; done
        for port in 81 82 83 84; do md5sum <'{sent}'.back$port; done"
    ));
    let outcome = run.wait().expect_code(0);
    let (sent, back) = sums.split_at(sums.len() / 2);
    assert_eq!(sent, back, "{outcome:#?}");
    assert_eq!(outcome.stdout, format!("{queues}{sent}"));
    assert_eq!(namespace.traces(), "");
}

#[test]
fn two_containers_reach_each_other() {
    let one = Namespace::new(3);
    let (other, world) = setting(4);
    sh("sysctl -q net.ipv4.ip_forward=1");
    let server = one.container(&world, "touch /listening; echo hello | nc -l -p 80");
    let running = server.start();
    wait_until("it listens", || server.file("/listening").exists());
    let client = "until nc -w 5 10.88.3.2 80; do sleep 0.2; done";
    let bundle = other.container(&world, client);
    let mut command = bundle.verb("run", &["client"]);
    let outcome = Outcome::of(&mut command).expect_code(0);
    assert_eq!(outcome.stdout, "hello\n");
    let _ = running.wait().expect_code(0);
}

#[test]
fn namespace_is_given_back_whoever_dies() {
    let (namespace, world) = setting(5);
    let bundle = namespace.container(&world, "sleep 1000");
    for verb in ["vmm", "monitor"] {
        bundle.create("c1");
        assert!(namespace.traces().contains("bulkhead0"));
        let second = bundle.verb("create", &["c2"]).output().unwrap();
        let message = String::from_utf8_lossy(&second.stderr).into_owned();
        assert!(message.contains("another microVM"), "{message}");
        let pid = world.processes(verb)[0];
        sh(&format!("kill -9 {pid}"));
        wait_until("it stopped", || world.state("c1")["status"] == "stopped");
        let _ = world.run(["delete", "c1"]).expect_code(0);
        wait_until("the tap is gone", || {
            !namespace.traces().contains("bulkhead0")
        });
    }
    // What a killed monitor has left is no obstacle.
    let outcome = namespace
        .container(&world, "ping -c 1 -W 20 10.88.5.1 >/dev/null")
        .run();
    let _ = outcome.expect_code(0);
    assert_eq!(namespace.traces(), "");
}

#[test]
fn namespace_that_is_gone_is_named() {
    let (namespace, world) = setting(6);
    let bundle = namespace.container(&world, "true");
    drop(namespace);
    let _ = bundle
        .run()
        .expect_code(1)
        .expect_message("/run/netns/bulkhead-test-6");
}

#[test]
fn interfaces_of_the_host_stay_the_hosts() {
    let world = World::new();
    let path = json!({ "type": "network", "path": "/proc/self/ns/net" });
    let bundle = world.bundle().shell("true");
    let bundle = bundle.set("/linux/namespaces", json!([path, { "type": "mount" }]));
    let outcome = bundle.run().expect_code(1);
    let _ = outcome.expect_message("/proc/self/ns/net");
}

#[test]
fn empty_namespace_is_no_network() {
    let (name, host_link) = ("bulkhead-test-7".to_owned(), "none".to_owned());
    ip(&format!("netns add {name}"));
    let namespace = Namespace { name, host_link };
    let world = World::new();
    let outcome = namespace
        .container(&world, "ls /sys/class/net")
        .run()
        .expect_code(0);
    assert_eq!(outcome.stdout, "lo\n");
}

#[test]
fn hook_may_make_the_network() {
    let world = World::new();
    let script = "ping -c 1 -W 20 10.88.8.1 >/dev/null && echo reached";
    let bundle = with_raw_sockets(world.bundle().shell(script));
    let script = "pid=$(grep -o '\"pid\":[0-9]*' | cut -d: -f2)
        ip link add bhtest8 type veth peer name eth0 netns /proc/$pid/ns/net
        ip addr add 10.88.8.1/24 dev bhtest8; ip link set bhtest8 up
        nsenter --net=/proc/$pid/ns/net sh -c 'ip addr add 10.88.8.2/24 dev eth0; ip link set eth0 up'";
    let env = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"];
    let hook = json!({ "path": "/bin/sh", "args": ["sh", "-ec", script], "env": env });
    let bundle = bundle.set("/hooks", json!({ "prestart": [hook] }));
    let outcome = bundle.run().expect_code(0);
    assert_eq!(outcome.stdout, "reached\n");
    wait_until("the veth is gone", || {
        !fs::exists("/sys/class/net/bhtest8").unwrap()
    });
}

#[test]
fn tap_that_is_removed_is_silence() {
    let (namespace, world) = setting(9);
    let bundle = namespace.container(&world, "sleep 1000");
    bundle.create("c1");
    let _ = world.run(["start", "c1"]).expect_code(0);
    ip(&format!("-n {} link del bulkhead0", namespace.name));
    let vmm = world.processes("vmm")[0];
    let ticks = || {
        let stat = fs::read_to_string(format!("/proc/{vmm}/stat")).unwrap();
        let fields: Vec<_> = stat
            .rsplit(')')
            .next()
            .unwrap()
            .split_whitespace()
            .collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    // Listening to what is gone would be a loop without end.
    wait_until("the VMM rests", || {
        let before = ticks();
        std::thread::sleep(std::time::Duration::from_secs(1));
        ticks() - before < 50
    });
    let _ = world.run(["exec", "c1", "true"]).expect_code(0);
    let _ = world.run(["delete", "--force", "c1"]).expect_code(0);
}

#[test]
fn links_that_are_no_ethernet_are_refused_and_peers_are_known() {
    let (namespace, world) = setting(0);
    let name = &namespace.name;
    ip(&format!(
        "-n {name} addr add 10.77.0.1 peer 10.77.0.2 dev eth7"
    ));
    let script = "ip route get 10.77.0.2 | head -1";
    let outcome = namespace.container(&world, script).run().expect_code(0);
    assert!(outcome.stdout.contains("dev eth7"), "{outcome:?}");
    ip(&format!(
        "-n {name} tuntap add dev tun7 mode tun
         -n {name} link set tun7 up"
    ));
    let outcome = namespace.container(&world, "true").run().expect_code(1);
    let _ = outcome.expect_message("tun7");
}
