# PgBouncer: paused before a planned switchover, pointed at the new leader, and let
# go on; twenty times, and no client notices more than a wait.  Whatever becomes of a
# PgBouncer or of the leader, it points at the leader in the end, and what an operator
# has paused stays so.  The lease is long, so that a slow disk under etcd closes no gate.
use strict;
use warnings;

use ElectorCluster;
use ElectorPgbouncer;
use Test::More;

my $cluster = ElectorCluster->new(nodes => 2, ttl => '10s')->build;
my @poolers = map { ElectorPgbouncer->new($cluster, "pb$_", '10.99.0.' . (80 + $_)) } 1 .. 2;
my ($one, $two) = @poolers;
my $setting = ElectorPgbouncer::setting(@poolers);
my $leader  = 'n1';

ElectorPgbouncer::set_passwords($cluster, 'n1', @poolers);
ElectorPgbench::create_tables($cluster, 'n1');
$one->start;
$two->start('n2.ini');

# A leader takes them over when they are named to it, and says what it cannot do.
my $offset = $cluster->log_offset('n1');
$cluster->reload_line($_, 'pg_elector.pgbouncer', $setting) foreach $cluster->nodes;
$_->wait_for_node('n1') foreach @poolers;
pass('both point at the leader, with whatever they were started');
$cluster->wait_for_status('n2', 'n1', { detail => '' });
unlike($cluster->log_since('n1', $offset), qr/\Q$ElectorPgbouncer::password\E/, 'the log has no password');

sub other { return $_[0] eq 'n1' ? 'n2' : 'n1' }

# Back and forth; the old leader follows before the next.
sub switch_over
{
	my ($old) = ($leader);
	$cluster->wait_for_follower(other($old));
	$cluster->psql($old, q{SELECT elector_switchover('} . other($old) . q{')}, timeout => 30);
	$leader = $cluster->wait_for_leader(exclude => $old);
	return;
}

# Twenty switchovers under load.
{
	my @bench = map { ElectorPgbench->new($cluster, $_->conninfo, clients => 4) } @poolers;
	my $began = now();
	switch_over() foreach 1 .. 20;
	$_->wait_for_node($leader) foreach @poolers;
	note sprintf('twenty switchovers in %.1f s', now() - $began);
	$cluster->wait_for_follower(other($leader));
	foreach my $i (0 .. 1)
	{
		my $bench = $bench[$i];
		my $name  = "pgbench over $poolers[$i]{name}";
		$bench->stop;
		is($bench->failed,  0, "$name: no transaction failed");
		is($bench->aborted, 0, "$name: no connection was lost") or diag($bench->{out});
		cmp_ok($bench->acked, '>', 1000, "$name: it did something ($bench->{acked} transactions)");
		cmp_ok($bench->longest, '<', 1000, sprintf('%s: the longest took %.0f ms', $name, $bench->longest));
		is(join(' ', $bench->present($leader)), "$bench->{acked} $bench->{acked}", "$name: what was acknowledged is there");
	}
	is($_->marked, 0, "$_->{name} is not marked any more") foreach @poolers;
}

# Restarted with the wrong file.
$offset = $cluster->log_offset($leader);
$one->kill;
$one->start(other($leader) . '.ini');
$one->wait_for_node($leader);
pass('restarted with the wrong file: it is put right');
$cluster->wait_log($leader, qr/PgBouncer "10\.99\.0\.81:6432" points at this node now/, $offset);

# One that stands still: it is known, and is waited for by nobody.
{
	$offset = $cluster->log_offset(other($leader));
	$two->freeze;
	my $bench = ElectorPgbench->new($cluster, $one->conninfo);
	my $old   = $leader;
	switch_over();
	isnt($leader, $old, 'one stands still: a switchover takes place');
	$bench->stop;
	is($bench->failed,  0, 'over the other one no transaction failed');
	is($bench->aborted, 0, 'no connection was lost');
	cmp_ok($bench->longest, '<', 1000, sprintf('the longest took %.0f ms', $bench->longest));
	$cluster->wait_for_status(other($leader), $leader, { detail => qr/PgBouncer "10\.99\.0\.82:6432": no answer/ });
	pass('elector_status names it');
	is(scalar(() = $cluster->log_since($leader, $offset) =~ /cannot use PgBouncer "10\.99\.0\.82/g), 1,
		'the log has one line about it');
	$two->thaw;
	$two->wait_for_node($leader);
	$cluster->wait_for_status(other($leader), $leader, { detail => '' });
	pass('it goes on, and points at the leader');
}

# A file that is missing, in a PgBouncer that says nothing about it.
$cluster->wait_for_follower(other($leader));
rename $two->file(other($leader) . '.ini'), $two->file('away');
switch_over();
$cluster->wait_for_status(other($leader), $leader, { detail => qr/has not loaded ".*\/$leader\.ini"/ });
pass('a missing file is in elector_status');
is($two->paused, 0, 'clients are told, and do not wait');
rename $two->file('away'), $two->file("$leader.ini");
$two->wait_for_node($leader);
pass('once it is there it is loaded');

# The leader's machine dies in a handover, when it has paused one; an operator has
# paused the other.
{
	my $writer = $cluster->start_writer(conninfo => $one->conninfo(connect_timeout => 2));
	$cluster->wait_for_follower(other($leader));
	defined $one->console($_) or die $one->{error} foreach 'PAUSE pg_elector', 'PAUSE';
	defined $two->console('PAUSE') or die $two->{error};
	my $old = $leader;
	$cluster->kill_all($old);
	$leader = $cluster->wait_for_leader(exclude => $old, timeout => 30);
	$_->wait_for_node($leader) foreach @poolers;
	pass('the leader dies: both point at the new one');
	$writer->wait_for_acks(10);
	pass('what a leader has paused, the next one lets go on');
	is($one->marked, 0, 'and the mark is taken away');
	is($two->paused, 1, 'what an operator has paused stays so');
	$two->console('RESUME');
	$writer->stop;
	$writer->check_rows($leader, name => 'the leader dies', losses => 1);
	$cluster->revive($old);
	$cluster->start($old);
	$cluster->wait_for_follower($old);
}

# Transactions have longer than elsewhere (pg_elector.drain_timeout): to wait costs their
# fellows nothing but time.
{
	my $session = $one->session;
	$cluster->wait_for_follower(other($leader));
	$session->query('BEGIN');
	$session->query('INSERT INTO public.rows VALUES (-5)');
	$cluster->psql($leader, q{SELECT elector_switchover('} . other($leader) . q{', wait => false)});
	$cluster->poll_until(sub { $one->marked }, 10, 'clients to be held back');
	ok($session->query('SELECT pg_sleep(0.7)')->{ok}, 'a transaction goes on while clients are held back');
	ok($session->query('COMMIT')->{ok}, 'and ends well');
	$leader = $cluster->wait_for_leader(exclude => $leader);
	$session->stop;
}

# Transactions that do not end are not waited for; what an operator has paused is no
# obstacle, and stays so.
{
	defined $two->console('PAUSE') or die $two->{error};
	my $session = $one->session;
	$session->query('BEGIN');
	$session->query('INSERT INTO public.rows VALUES (-1)');
	my $old = $leader;
	switch_over();
	isnt($leader, $old, 'a transaction that does not end does not keep the switchover');
	$_->wait_for_node($leader) foreach @poolers;
	is($two->paused, 1, 'a switchover leaves what an operator has paused so');
	$two->console('RESUME');
	ok(!$session->query('COMMIT')->{ok}, 'its client is told');
	$session->stop;
	ok($one->session->query('INSERT INTO public.rows VALUES (-2)')->{ok}, 'others go on');
}

# Called off while clients are held back: they go on where they are.
{
	my $session = $one->session;
	$cluster->wait_for_follower(other($leader));
	$session->query('BEGIN');
	$session->query('INSERT INTO public.rows VALUES (-3)');
	$cluster->reload_line($leader, 'pg_elector.drain_timeout', '60s');
	$cluster->psql($leader, 'SELECT elector_switchover(wait => false)');
	$cluster->poll_until(sub { $one->marked && $two->marked }, 10, 'clients to be held back');
	$cluster->poll_until(sub { $one->setting_of('max_db_connections') == 1 }, 10, 'no server connection to be opened any more');
	is($cluster->psql($leader, 'SELECT elector_cancel_switchover()'), 't', 'a switchover is canceled while clients are held back');
	ok($_->session->query('INSERT INTO public.rows VALUES (-4)')->{ok}, "over $_->{name} they go on") foreach @poolers;
	ok($session->query('COMMIT')->{ok}, 'and a transaction that was under way ends well');
	$cluster->poll_until(sub { $one->marked == 0 && $two->marked == 0 }, 10, 'the marks to be taken away');
	is($_->setting_of('max_db_connections'), 0, "the settings of $_->{name} are its own again") foreach @poolers;
	$session->stop;
}

# What the setting must not be.
foreach my $case (
	[ 'host=h user=u password=hush', qr/password/,         'a password' ],
	[ 'host=h; nonsense',            qr/string 2.*libpq/,  'what libpq cannot read' ],
	[ 'user=u',                      qr/names no host/,    'no host' ],
	[ 'host=a,b',                    qr/several hosts/,    'several hosts in one' ],
	[ 'host=h dbname=postgres',      qr/admin console/,    'another database' ],
	[ 'host=h; hostaddr=1.2.3.4; host=h port=6432', qr/twice/, 'one twice' ])
{
	my ($value, $pattern, $what) = @$case;
	my $result = $cluster->try_psql($leader, "ALTER SYSTEM SET pg_elector.pgbouncer = '$value'");
	ok(!$result->{ok}, "ALTER SYSTEM refuses $what");
	like($result->{err}, $pattern, 'and says what is wrong');
	unlike($result->{err} =~ s/^STATEMENT.*//mr, qr/hush/, 'without the password');
}

done_testing();
