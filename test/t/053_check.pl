# pg_elector check: nothing to change in a cluster that is well; each thing that is
# wrong is named, with what to do, and is the only one that is.
use strict;
use warnings;

use ElectorCluster;
use ElectorProcess qw(run_command);
use Test::More;

my $cluster = ElectorCluster->new(nodes => 3, peer => 'elector',
	settings => { max_replication_slots => 10, max_worker_processes => 10 })->build;
my $passfile = $cluster->base . '/.pgpass';

sub check
{
	my ($node, @args) = @_;
	my $since  = now();
	my $result = $cluster->run_on($node, { timeout => 60 }, 'pg_elector', 'check', '-D', $cluster->data($node), @args);
	$result->{took} = now() - $since;
	$result->{code} = $result->{rc} >> 8;
	return $result;
}

# One line that says it, and no other FAIL.
sub found
{
	my ($result, $level, $what, $advice, $name) = @_;
	my @fails = $result->{out} =~ /^FAIL .*/mg;
	like($result->{out}, qr/^$level +$what.*\n +.*$advice/m, $name) or diag("$result->{out}$result->{err}");
	is($result->{code}, $level eq 'FAIL' ? 1 : 0, "exit status: $name");
	is(scalar(@fails), $level eq 'FAIL' ? 1 : 0, "and nothing else: $name") or diag($result->{out});
	return;
}

# A line of postgresql.conf is another for a while; the server does not load it.
sub with_line
{
	my ($node, $setting, $value, @expected) = @_;
	my $conf = $cluster->data($node) . '/postgresql.conf';
	my $text = read_file($conf);
	$cluster->set_line($node, $setting, $value);
	found(check($node), @expected);
	write_file($conf, $text);
	return;
}

#
# All is well, on the leader and on a follower.
#
foreach my $node (qw(n1 n2))
{
	my $result = check($node);
	is($result->{code}, 0, "$node: nothing to change") or diag("$result->{out}$result->{err}");
	unlike($result->{out}, qr/^FAIL/m, "$node: no FAIL");
	like($result->{out}, qr/^ok +node "$node" of cluster "orders"$/m, "$node: who it is");
	like($result->{out}, qr/^ok +etcd at http\S+ answers, in \d+ ms$/m, "$node: etcd");
	like($result->{out}, qr/^ok +etcd grants leases of 2 s$/m, "$node: the lease");
	like($result->{out}, qr/^ok +can be rewound when it has led$/m, "$node: a rewind");
	like($result->{out}, qr/^ok +this node is reached at \S+, as the others do$/m, "$node: itself");
	foreach my $other (grep { $_ ne $node } $cluster->nodes)
	{
		like($result->{out}, qr/^ok +node "$other" is reached at /m, "$node: it reaches $other");
		like($result->{out}, qr/^ok +node "$other" reaches this one$/m, "$node: $other reaches it");
	}
	like($result->{out}, qr/^warn +etcd has one endpoint/m, "$node: etcd with one endpoint is worth a word");
	like($result->{out}, qr/^0 to change, 1 to think about$/m, "$node: the sum");
}
ok(!grep({ m{^check/} } keys %{ { $cluster->etcd_keys } }), 'nothing is left of it in etcd');

#
# The configuration.
#
with_line('n2', 'shared_preload_libraries', '', 'FAIL', 'the library is not loaded', 'Set shared_preload_libraries', 'the library');
with_line('n2', 'wal_log_hints', 'off', 'FAIL', 'wal_log_hints is off and there are no data checksums', 'Set wal_log_hints = on', 'rewind');
with_line('n2', 'full_page_writes', 'off', 'FAIL', 'full_page_writes is off', 'Set full_page_writes = on', 'full_page_writes');
with_line('n2', 'hot_standby', 'off', 'FAIL', 'hot_standby is off', 'Set hot_standby = on', 'hot_standby');
with_line('n2', 'wal_level', 'minimal', 'FAIL', 'wal_level is minimal', 'Set wal_level = replica', 'wal_level');
with_line('n2', 'max_wal_senders', '1', 'warn', 'max_wal_senders is 1', 'Set max_wal_senders = 5, or more', 'max_wal_senders');
with_line('n2', 'max_replication_slots', '1', 'warn', 'max_replication_slots is 1', 'Set max_replication_slots = 3', 'max_replication_slots');
with_line('n2', 'listen_addresses', 'localhost', 'FAIL', 'listen_addresses is "localhost"', 'Set listen_addresses', 'listen_addresses');
with_line('n2', 'pg_elector.lease_margin', '2s', 'FAIL', 'pg_elector.lease_margin \(2 s\) is not less than lease_ttl \(2 s\)', 'small part', 'lease_margin');
with_line('n2', 'pg_elector.rejoin', 'off', 'warn', 'pg_elector.rejoin is off', 'Set it to rewind', 'rejoin');
with_line('n2', 'pg_elector.conninfo', $cluster->node_conninfo('n2') . ' password=hush', 'FAIL', 'pg_elector.conninfo holds a password', 'example', 'a password in conninfo');
with_line('n2', 'pg_elector.etcd_password_file', '/nowhere', 'FAIL', '.*/nowhere', 'Correct the file, or pg_elector.etcd_password_file', 'a password file that is not there');

write_file($passfile, "*:*:*:elector:hush\n");
chown $cluster->{uid}, $cluster->{gid}, $passfile;
chmod 0644, $passfile;
found(check('n2'), 'FAIL', 'password file "\S+" is open to others', 'chmod 600', 'a password file that others may read');
unlink $passfile;

#
# The members.
#
{
	my $hba = read_file($cluster->data('n3') . '/pg_hba.conf');
	write_file($cluster->data('n3') . '/pg_hba.conf', $hba =~ s/^host replication.*\n//mr);
	$cluster->psql('n3', 'SELECT pg_reload_conf()');
	my $result;
	$cluster->poll_until(sub { $result = check('n2'); $result->{out} =~ /^FAIL/m }, 20, 'n3 to have loaded it');
	found($result, 'FAIL', 'node "n3" does not let this one replicate: ', 'pg_hba.conf needs a line for database "replication"', 'no line for replication');
	write_file($cluster->data('n3') . '/pg_hba.conf', $hba);
	$cluster->psql('n3', 'SELECT pg_reload_conf()');
}
$cluster->psql('n1', 'REVOKE EXECUTE ON FUNCTION pg_read_binary_file(text) FROM elector');
$cluster->wait_for_follower('n3');
$cluster->wait_for_follower('n2');
{
	my $result = check('n2');
	is($result->{code}, 1, 'a right that is missing');
	like($result->{out}, qr/^FAIL +role "elector" may not be used to rewind on node "n1"\n +Run SELECT elector_grant_peer/m, 'and which');
}
$cluster->psql('n1', q{SELECT elector_grant_peer('elector')});
$cluster->wait_for_follower($_) foreach qw(n2 n3);

# The others do not reach it, though it reaches them: its own rules let nobody in.
{
	my $hba = read_file($cluster->data('n2') . '/pg_hba.conf');
	write_file($cluster->data('n2') . '/pg_hba.conf', "local all all trust\nhost all all 10.99.0.12/32 trust\nhost replication all 10.99.0.12/32 trust\n");
	$cluster->psql('n2', 'SELECT pg_reload_conf()');
	# What is connected stays so.
	$cluster->psql('n2', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name IN ('pg_elector/n1', 'pg_elector/n3')});
	$cluster->wait_for_status($_, 'n2', { state => 'unreachable' }) foreach qw(n1 n3);
	my $result = check('n2');
	is($result->{code}, 1, 'the others do not reach this node');
	like($result->{out}, qr/^ok +node "$_" is reached/m, "it reaches $_") foreach qw(n1 n3);
	like($result->{out}, qr/^FAIL +node "$_" cannot reach this one: .*pg_hba\.conf.*\n +It connects by this node's pg_elector\.conninfo/m, "$_ does not reach it") foreach qw(n1 n3);
	write_file($cluster->data('n2') . '/pg_hba.conf', $hba);
	$cluster->psql('n2', 'SELECT pg_reload_conf()');
	$cluster->wait_for_status('n1', 'n2', { state => 'streaming' });
}

# A silent machine takes no more than its bound.
$cluster->cut('n3');
{
	my $result = check('n2', '--timeout', '2');
	is($result->{code}, 1, 'a node that is cut off');
	like($result->{out}, qr/^FAIL +node "n3" cannot be reached at 10\.99\.0\.13:5432: .*\n +See its address/m, 'is named');
	cmp_ok($result->{took}, '<', 15, 'within its bound');
}
$cluster->heal('n3');
$cluster->wait_for_follower('n3');

# One that is not running, and all that can be said of it then.
$cluster->stop('n3');
found(check('n3'), 'warn', 'the server is not running', 'Start it', 'a server that does not run');
found(check('n2'), 'warn', 'node "n3" is not alive', 'elector_remove_member', 'a member that is not alive');
$cluster->start('n3');
$cluster->wait_for_follower('n3');

#
# No etcd, and a slow one.
#
$cluster->{etcd_options} = [ '--heartbeat-interval', '500', '--election-timeout', '5000' ];
$cluster->stop_etcd;
{
	my $result = check('n2', '--timeout', '2');
	is($result->{code}, 1, 'no etcd');
	like($result->{out}, qr/^FAIL +etcd cannot be reached\n +See pg_elector\.etcd/m, 'is said');
	cmp_ok($result->{took}, '<', 15, 'within its bound');
}
$cluster->start_etcd;
$cluster->poll_until(sub { check('n2')->{out} =~ /^warn +etcd grants no lease of less than 8 s, and pg_elector\.lease_ttl is 2 s\n +.*election-timeout/m },
	60, q{the check to name etcd's floor});
pass(q{etcd's own floor of a lease});

#
# An etcd with certificates and users, found by the configuration or by options.
#
{
	my $other = ElectorCluster->new(nodes => 1, tls => 1, auth => 1)->build;
	my $pki   = $other->pki;
	my $key   = $pki->key('client');
	my $run   = sub { $other->run_on('n1', { timeout => 60 }, 'pg_elector', @_) };

	my $result = $run->('check', '-D', $other->data('n1'));
	is($result->{rc}, 0, 'TLS and a user: nothing to change') or diag("$result->{out}$result->{err}");
	like($result->{out}, qr/^ok +pg_elector\.$_ is usable$/m, "TLS and a user: $_") foreach qw(etcd_ca_file etcd_cert_file etcd_key_file etcd_password_file);
	is($run->('status', '-D', $other->data('n1'))->{rc}, 0, 'TLS and a user: status');
	my @options = ('--cluster', 'orders', '--etcd', $other->endpoints, '--etcd-ca-file', $pki->cert('ca'),
		'--etcd-cert-file', $pki->cert('client'), '--etcd-key-file', $key, '--etcd-user', 'elector',
		'--etcd-password-file', $other->password_file('n1'));
	is($run->('status', @options)->{rc}, 0, 'TLS and a user: status by options');
	$result = $run->('status', @options[0 .. 9]);
	is($result->{rc} >> 8, 1, 'without the user: an error');
	like($result->{err}, qr/could not read cluster "orders" from etcd/, 'without the user: which says so');
	unlike($result->{err}, qr/first-secret/, 'and shows no password');

	chmod 0644, $key;
	$result = $run->('check', '-D', $other->data('n1'));
	is($result->{rc} >> 8, 1, 'a key that others may read');
	like($result->{out}, qr/^FAIL +.*client\.key.*\n +Correct the file, or pg_elector\.etcd_key_file/m, 'is named');
	chmod 0600, $key;

	# The role's right is for another prefix.
	$other->etcdctl('role', 'revoke-permission', 'elector', '--prefix=true', $other->prefix);
	$other->etcdctl('role', 'grant-permission', 'elector', '--prefix=true', 'read', $other->prefix);
	$result = $run->('check', '-D', $other->data('n1'));
	is($result->{rc} >> 8, 1, 'a user that may only read');
	like($result->{out}, qr/^FAIL +this node may not write to etcd: .*\n +etcd's user needs a role with: readwrite, --prefix=true, \/pg_elector\/orders\//m, 'is told what it needs');
	$other->teardown;
}

done_testing();
