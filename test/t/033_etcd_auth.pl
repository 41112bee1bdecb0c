# etcd with users: a role for the cluster's prefix is enough for everything.  The
# password is replaced, members of etcd restart and forget their tokens, tokens
# expire, all without the gate closing.  A wrong password, and a missing permission,
# are said in so many words, and mended without a restart.
use strict;
use warnings;

use ElectorCluster;
use Test::More;

sub refused_since
{
	my ($probers, $node, $since) = @_;
	return scalar grep { $_->{node} eq $node && $_->{at} >= $since } $probers->errors;
}

# Three members.
{
	my $cluster = ElectorCluster->new(nodes => 3, etcd => 3, ttl => '10s', auth => 1)->build;
	my $writer  = $cluster->start_writer;
	my $probers = $cluster->start_probers;
	my @nodes   = $cluster->nodes;
	my %offset;
	my $marks = sub { %offset = map { $_ => $cluster->log_offset($_) } @nodes };

	like(read_file($cluster->log('n1')), qr/WARNING:  the password of etcd's user "elector" travels in the clear/,
		'without TLS: a warning');
	my $role = $cluster->etcdctl('role', 'get', 'elector');
	is(join(' ', sort $role =~ m{\[(/\S+?),}g), join(' ', ($cluster->prefix) x 2), 'the role is for the prefix alone');

	# What the program is started with, anybody can see.
	my $pid = $cluster->postmaster_pid('n1');
	my %seen;
	$cluster->psql('n1', q{SELECT elector_switchover('n2', wait => false)}, timeout => 30);
	$cluster->poll_until(
		sub {
			my $line = eval { read_file("/proc/$pid/cmdline") } // '';
			$seen{ $line =~ tr/\0/ /r } = 1;
			return grep { /--etcd-password-file/ } keys %seen;
		},
		20, 'the program pg_elector');
	is(scalar(grep { /secret/ } keys %seen), 0, 'no password among the arguments of the program');
	is($cluster->wait_for_leader(exclude => 'n1'), 'n2', 'a switchover');
	$cluster->wait_for_follower($_) foreach qw(n1 n3);
	like($cluster->log_since('n1'), qr/released leadership of term 1/, 'the leadership was released in etcd');
	unlike($cluster->log_since('n1'), qr/could not (?:release|revoke)/, 'and the lease revoked');
	unlike(read_file("/proc/$pid/environ"), qr/PG_ELECTOR_ETCD_TOKEN/, 'the server does not keep the token in its environment');

	$cluster->kill_postmaster('n2');
	my $leader = $cluster->wait_for_leader(exclude => 'n2');
	ok($leader, "a failover: $leader leads");
	$cluster->wait_for_no_process('n2');
	$cluster->start('n2');
	$cluster->wait_for_follower('n2');
	$cluster->remember('n2');
	my $term = $cluster->term($leader);

	# Members restart, and know no token any more.
	my $since = now_us();
	$cluster->roll_etcd;
	$cluster->poll_until(sub { now_us() - $since > 11e6 }, 20, 'more than the TTL to pass');
	is(refused_since($probers, $leader, $since), 0, 'members restart: not one probe was refused');
	my $gap = int $writer->longest_gap(since => $since);
	note("members restart: longest gap $gap ms");

	# The file first, then etcd.
	$since = now_us();
	$marks->();
	$cluster->set_password('second-secret', $_) foreach @nodes;
	$cluster->wait_log($_, qr/WARNING:  etcd does not accept the password in file "[^"]*" for user "elector", but still the former one/, $offset{$_})
	  foreach @nodes;
	$cluster->change_etcd_password('second-secret');
	$cluster->wait_log($leader, qr/LOG:  etcd accepts the password of user "elector"/, $offset{$leader});
	$cluster->poll_until(sub { now_us() - $since > 11e6 }, 20, 'more than the TTL to pass');
	is(refused_since($probers, $leader, $since), 0, 'file, then etcd: not one probe was refused');
	is($cluster->term($leader), $term, 'file, then etcd: the leader stays');

	# etcd first: the files have to follow soon.
	$since = now_us();
	$marks->();
	$cluster->change_etcd_password('third-secret');
	$cluster->set_password('third-secret', $_) foreach @nodes;
	$cluster->poll_until(sub { now_us() - $since > 11e6 }, 20, 'more than the TTL to pass');
	is(refused_since($probers, $leader, $since), 0, 'etcd, then files: not one probe was refused');
	is($cluster->term($leader), $term, 'etcd, then files: the leader stays');

	# A file that others may read is not used; what was in it goes on.
	$marks->();
	my ($follower) = grep { $_ ne $leader } @nodes;
	chmod 0644, $cluster->password_file($follower);
	$cluster->wait_log($follower, qr/WARNING:  cannot use file "[^"]*": group or others may read it/, $offset{$follower});
	pass('others may read the file: the log says it');
	chmod 0600, $cluster->password_file($follower);

	# A wrong one, at a start.
	$marks->();
	$cluster->stop($follower);
	$cluster->set_password('wrong', $follower);
	$cluster->start($follower);
	$cluster->wait_log($follower, qr/WARNING:  etcd at "[^"]*" does not accept the password of user "elector"/, $offset{$follower});
	pass('a wrong password: the log says it');
	$cluster->wait_for_status($follower, $follower,
		{ state => 'no etcd', detail => qr/the password of user "elector" is not accepted/ });
	pass('a wrong password: elector_status says it');
	$since = now_us();
	$cluster->poll_until(sub { now_us() - $since > 4e6 }, 15, 'more attempts');
	my @said = $cluster->log_since($follower, $offset{$follower}) =~ /does not accept the password/g;
	is(scalar @said, 1, 'a wrong password: one line');
	$cluster->set_password('third-secret', $follower);
	$cluster->wait_for_follower($follower);
	pass('corrected, it follows without a restart');
	$cluster->remember($follower);

	# No permission.
	$marks->();
	$cluster->etcdctl('role', 'revoke-permission', 'elector', '--prefix=true', $cluster->prefix);
	$cluster->restart($follower);
	$cluster->wait_log($follower, qr/WARNING:  etcd at "[^"]*" gives user "elector" no permission for the keys of this cluster/, $offset{$follower});
	pass('no permission: the log says it');
	$cluster->wait_for_status($follower, $follower, { detail => qr/no permission for the keys/ });
	pass('no permission: elector_status says it');
	$cluster->etcdctl('role', 'grant-permission', 'elector', '--prefix=true', 'readwrite', $cluster->prefix);
	$leader = $cluster->wait_for_leader(timeout => 40);
	$cluster->wait_for_follower($_) foreach grep { $_ ne $leader } @nodes;
	pass('granted again, the cluster is whole');
	$cluster->wait_log($follower, qr/LOG:  etcd gives user "elector" permission for the keys of this cluster/, $offset{$follower});
	pass('and the log says it');
	$cluster->remember($follower);

	foreach my $node (@nodes)
	{
		unlike(read_file($cluster->log($node)), qr/secret/, "no password in the log of $node");
	}
	my @lines = map { values %$_ } map { $cluster->query_status($_) } @nodes;
	is(scalar(grep { defined && /secret/ } @lines), 0, 'no password in elector_status');
	$cluster->check_end('users', $writer, $probers, losses => 1);
}

# Tokens that expire within the TTL (JWT), one member; and what changes in etcd's users
# voids such tokens, too.
{
	my $cluster = ElectorCluster->new(nodes => 1, etcd => 1, ttl => '5s', auth => 1);
	my $base    = $cluster->base;
	$cluster->must_run_as_user('client', 'openssl', 'genrsa', '-out', "$base/jwt.key", '2048');
	$cluster->must_run_as_user('client', 'openssl', 'rsa', '-in', "$base/jwt.key", '-pubout', '-out', "$base/jwt.pub");
	$cluster->{etcd_options} = [ '--auth-token', "jwt,pub-key=$base/jwt.pub,priv-key=$base/jwt.key,sign-method=RS256,ttl=3s" ];
	$cluster->build;
	my $probers = $cluster->start_probers;
	my $since   = now_us();
	$probers->wait_for_ack('n1');
	$cluster->poll_until(sub { now_us() - $since > 10e6 }, 20, 'three tokens to expire');
	is(refused_since($probers, 'n1', $since), 0, 'tokens expire: not one probe was refused');
	$since = now_us();
	foreach my $role (1 .. 5)
	{
		$cluster->etcdctl('role', 'add', "role$role");
		$probers->wait_for_ack('n1');
	}
	$cluster->poll_until(sub { now_us() - $since > 6e6 }, 20, 'more than the TTL to pass');
	is(refused_since($probers, 'n1', $since), 0, 'roles change: not one probe was refused');
	is($cluster->term('n1'), 1, 'the leader stays');

	# Users are off, and on.
	$since = now_us();
	$cluster->etcdctl('auth', 'disable');
	$cluster->{auth_enabled} = 0;
	$probers->wait_for_ack('n1');
	$cluster->poll_until(sub { now_us() - $since > 6e6 }, 20, 'more than the TTL to pass');
	$cluster->etcdctl('auth', 'enable');
	$cluster->{auth_enabled} = 1;
	$cluster->poll_until(sub { now_us() - $since > 6e6 }, 20, 'more than the TTL to pass');
	is(refused_since($probers, 'n1', $since), 0, 'users off and on: not one probe was refused');
	is($cluster->term('n1'), 1, 'the leader stays');
	$probers->stop;
}

done_testing();
