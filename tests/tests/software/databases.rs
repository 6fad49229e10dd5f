//! Databases, and what is left of their data when they are killed.

use bulkhead_tests::World;

use crate::Machine;

/// Starts `postgres`, and starts it again whenever it ends.
const POSTGRESQL: &str = "
export PGDATA=/var/lib/postgresql/data
test -e $PGDATA || initdb --auth trust --no-sync || exit
while :; do
    postgres -k /tmp -c listen_addresses= -c shared_buffers=16MB
    sleep 1
done";

/// How many transactions pgbench has carried out.
const COUNT: &str = "SELECT count(*) FROM pgbench_history";

/// True if every transaction of pgbench's has happened as a whole or not at all.
const IS_CONSISTENT: &str = "
SELECT sum(delta) = (SELECT sum(abalance) FROM pgbench_accounts)
    AND sum(delta) = (SELECT sum(tbalance) FROM pgbench_tellers)
FROM pgbench_history";

fn query(machine: &Machine<'_>, sql: &str) -> String {
    machine.run(&format!("psql -h /tmp -At -c '{sql}'"))
}

fn count_transactions(machine: &Machine<'_>) -> u64 {
    query(machine, COUNT).parse().expect("a number")
}

/// Starts pgbench in the background (`-n`: on the tables as they are), and gives the number of transactions when it
/// has done something.
fn start_transactions(machine: &Machine<'_>) -> u64 {
    let before = count_transactions(machine);
    machine.run("pgbench -h /tmp -n -c 2 -T 1000 >/dev/null 2>&1 &");
    machine.wait_for(&format!(
        "test $(psql -h /tmp -At -c '{COUNT}') -gt {before}"
    ));
    count_transactions(machine)
}

/// Fails the test unless the database has recovered from a crash, for the nth time,
/// and kept at least so many transactions.
fn assert_recovered(machine: &Machine<'_>, times: usize, transactions: u64) {
    machine.wait_for("pg_isready -h /tmp");
    assert!(count_transactions(machine) >= transactions);
    assert_eq!(query(machine, IS_CONSISTENT), "t");
    let log = machine.log();
    let recoveries = log.matches("automatic recovery in progress").count();
    assert_eq!(recoveries, times, "{log}");
}

#[test]
fn postgresql_recovers_from_kill_9() {
    let world = World::new();
    let machine = Machine::new(&world, "postgres", POSTGRESQL);
    machine.start();
    machine.wait_for("pg_isready -h /tmp");
    machine.run("pgbench -h /tmp -i -q 2>&1 && pgbench -h /tmp -n -c 2 -t 20 2>&1");

    let transactions = start_transactions(&machine);
    machine.run("kill -9 $(head -n 1 /var/lib/postgresql/data/postmaster.pid)");
    machine.wait_for("! pgrep pgbench");
    assert_recovered(&machine, 1, transactions);

    let transactions = start_transactions(&machine);
    machine.end("KILL");
    machine.start();
    assert_recovered(&machine, 2, transactions);

    let transactions = start_transactions(&machine);
    machine.crash();
    machine.start();
    assert_recovered(&machine, 3, transactions);
    machine.end("KILL");
}

const REDIS: &str = "exec redis-server --dir /var/lib/redis";

/// Makes Redis set some thousand keys.
const MANY: &str = "for i = 1, 5000 do redis.call('set', i, i) end";

#[test]
fn redis_loads_its_snapshot() {
    let world = World::new();
    let machine = Machine::new(&world, "redis", &format!("{REDIS} --save ''"));
    machine.start();
    machine.wait_for("redis-cli ping | grep PONG");
    machine.run(&format!(
        "redis-cli set name value; redis-cli eval \"{MANY}\" 0; redis-cli bgsave"
    ));
    machine.wait_for("redis-cli info persistence | grep rdb_bgsave_in_progress:0");
    machine.run("redis-cli set name unsaved");
    machine.end("KILL");

    machine.start();
    machine.wait_for("redis-cli ping | grep PONG");
    assert_eq!(
        machine.run("redis-cli get name; redis-cli dbsize"),
        "value\n5001"
    );
    machine.end("TERM");
}

#[test]
fn redis_replays_its_log() {
    let world = World::new();
    let script = format!("{REDIS} --save '' --appendonly yes --appendfsync always");
    let machine = Machine::new(&world, "redis", &script);
    machine.start();
    machine.wait_for("redis-cli ping | grep PONG");
    machine.run("redis-cli set name value; redis-cli rpush list a b c; redis-cli incr counter");
    machine.crash();

    machine.start();
    machine.wait_for("redis-cli ping | grep PONG");
    let read = "redis-cli get name; redis-cli llen list; redis-cli get counter";
    assert_eq!(machine.run(read), "value\n3\n1");
    machine.end("TERM");
}

#[test]
fn etcd_keeps_what_was_put() {
    let world = World::new();
    let script = "exec etcd --data-dir /var/lib/etcd/default";
    let machine = Machine::new(&world, "etcd", script);
    machine.start();
    machine.wait_for("etcdctl endpoint health");
    machine.run("etcdctl put /name value");
    machine.end("KILL");

    machine.start();
    machine.wait_for("etcdctl endpoint health");
    assert_eq!(machine.run("etcdctl get --print-value-only /name"), "value");
    machine.end("TERM");
}
