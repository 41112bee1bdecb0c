# Reads and writes on the leader are linearizable: clients read, write, and compare and
# set a few registers, through all hosts and on each node, while the leader changes, is
# stopped, cut off, killed; and what they were told fits together (linearizable.c).  The
# same without the library does not.
use strict;
use warnings;

use ElectorCluster;
use ElectorProcess qw(run_command);
use File::Temp qw(tempdir);
use List::Util qw(shuffle);
use Test::More;

my $registers = 8;
my $directory = tempdir(CLEANUP => 1);
my $checker   = 'build/kit/linearizable';

#
# The checker itself, on histories by hand.  A line: asked, answered, what.
#
sub verdict
{
	my ($number, @lines) = @_;
	write_file("$directory/history", join '',
		map { my ($asked, $answered, $what) = split / /, $lines[$_], 3; "$number $asked $answered " . ($_ + 1) . " $what\n" } 0 .. $#lines);
	my $result = run_command({}, $checker, "$directory/history");
	return $result->{out} =~ /: linearizable$/m ? 1 : $result->{out} =~ /NOT linearizable/ ? 0 : $result->{err};
}

sub fits     { my ($name, @lines) = @_; return is(verdict(0, @lines), 1, "checker: $name") }
sub fits_not { my ($name, @lines) = @_; return is(verdict(0, @lines), 0, "checker: not $name") }

fits('one after the other', '1 2 read 0', '3 4 write 1', '5 6 read 1', '7 8 cas 1 2 yes', '9 10 cas 1 3 no', '11 12 read 2');
fits_not('an old value', '1 2 write 1', '3 4 write 2', '5 6 read 1');
fits_not('the first value after a write', '1 2 write 1', '3 4 read 0');
fits_not('a value that nobody wrote', '1 2 read 7');
fits_not('a value before it is written', '1 2 read 1', '3 4 write 1');
fits('before or after what happens meanwhile', '1 9 write 1', '2 3 read 0', '4 5 read 1');
fits_not('after, and then before', '1 9 write 1', '2 3 read 1', '4 5 read 0');
fits('two at once, in either order', '1 9 write 1', '1 9 write 2', '10 11 read 1');
fits_not('two at once, in both orders', '1 9 write 1', '1 9 write 2', '10 11 read 1', '12 13 read 2');
fits('without an answer: never', '1 - write 1', '2 3 read 0', '100 101 read 0');
fits('without an answer: late', '1 - write 1', '2 3 write 2', '4 5 read 2', '6 7 read 1');
fits_not('without an answer: and then undone', '1 - write 1', '2 3 read 1', '4 5 read 0');
fits_not('without an answer: twice', '1 - write 1', '2 3 write 2', '4 5 read 1', '6 7 write 3', '8 9 read 1');
fits_not('without an answer: seen before it was asked', '1 2 read 1', '3 - write 1');
fits('without an answer: one after the other', '1 - write 1', '2 - cas 1 2 -', '3 4 read 2');
fits_not('without an answer: of a value that is not there', '1 - cas 5 2 -', '3 4 read 2');
fits_not('two that both found the same value', '1 2 write 1', '3 9 cas 1 2 yes', '3 9 cas 1 3 yes');
fits_not('one that found another value', '1 2 write 1', '3 4 cas 0 2 yes');
fits_not('one that did not find the value that was there', '1 2 write 1', '3 4 cas 1 2 no');
fits('one that did not, because of one without an answer', '1 2 write 1', '2 - write 3', '3 4 cas 1 2 no', '5 6 write 4', '7 8 read 4');
fits_not('one that did not, though it was asked later', '1 2 write 1', '3 4 cas 1 2 no', '5 - write 3');
fits_not('twice because of one', '1 2 write 1', '2 - write 3', '3 4 cas 1 2 no', '5 6 write 4', '7 8 cas 4 5 no');
fits('twice because of two', '1 2 write 1', '2 - write 3', '2 - write 6', '3 4 cas 1 2 no', '5 6 write 4', '7 8 cas 4 5 no', '9 10 write 7', '11 12 read 7');
like(verdict(0, '1 2 write 1', '3 4 write 1'), qr/written twice/, 'checker: values must differ');

# And against the plainest algorithm, all orders, on small histories by chance.  The
# operations are those that a register would give, and then one of them is changed.
sub all_orders
{
	my ($value, @ops) = @_;
	return 1 unless grep { $_->{answered} ne '-' } @ops;
	my ($first) = sort { $a <=> $b } map { $_->{answered} } grep { $_->{answered} ne '-' } @ops;
	foreach my $i (0 .. $#ops)
	{
		my $op = $ops[$i];
		my ($kind, $a, $b, $yes) = split / /, $op->{what};
		next if $op->{asked} > $first;
		next if $kind eq 'read' && $a != $value;
		next if $kind eq 'cas' && ($yes eq 'no' ? $a == $value : $a != $value);
		my $after = $kind eq 'write' ? $a : $kind eq 'cas' && $yes ne 'no' ? $b : $value;
		return 1 if all_orders($after, @ops[ grep { $_ != $i } 0 .. $#ops ]);
	}
	return 0;
}

my $seed = $ENV{LINEARIZABLE_SEED} // time;
note("LINEARIZABLE_SEED=$seed");
srand($seed);
my (@files, @expected);
foreach my $number (0 .. 999)
{
	my ($value, $new, @ops) = (0, 0);
	foreach my $at (1 .. 3 + int rand 5)
	{
		my $asked = 10 * $at - int rand 25;
		my $answered = 10 * $at + 1 + int rand 25;
		my $old = rand() < 0.6 ? $value : int rand($new + 1);
		my $kind = int rand 4;
		my $what;
		if ($kind == 0) { $what = 'write ' . ($value = ++$new) }
		elsif ($kind == 1)
		{
			$new++;
			$what = "cas $old $new " . ($old == $value ? 'yes' : 'no');
			$value = $new if $old == $value;
		}
		else { $what = "read $value" }
		if ($kind < 2 && rand() < 0.3) { $answered = '-'; $what =~ s/(yes|no)$/-/ }
		push @ops, { asked => $asked + 30, answered => $answered eq '-' ? '-' : $answered + 30, what => $what };
	}
	# all but a third are disturbed
	foreach (1 .. int rand 3)
	{
		my $op = $ops[ rand @ops ];
		if ($op->{what} =~ /^read/) { $op->{what} = 'read ' . int rand($new + 1) }
		elsif ($op->{what} =~ /yes$/) { $op->{what} =~ s/yes/no/ }
		elsif ($op->{what} =~ /no$/) { $op->{what} =~ s/no/yes/ }
		else { my $by = 20 - int rand 40; $op->{asked} += $by; $op->{answered} += $by if $op->{answered} ne '-' }
	}
	push @files, map { "$number $_->{asked} $_->{answered} 1 $_->{what}\n" } shuffle @ops;
	push @expected, all_orders(0, @ops);
}
write_file("$directory/chance", join '', @files);
my $result = run_command({}, $checker, "$directory/chance");
my @found = map { /NOT/ ? 0 : 1 } grep { /^register/ } split /\n/, $result->{out};
is(join(' ', grep { ($found[$_] // -1) != $expected[$_] } 0 .. $#expected), '', 'checker: what all orders say, of ' . @expected . ' histories');
cmp_ok(scalar(grep { !$_ } @expected), '>', 100, 'checker: of which many are not linearizable');
cmp_ok(scalar(grep { $_ } @expected), '>', 100, 'checker: and many are');

#
# Without the library: a primary that has stood still answers as if nothing had
# happened.
#
{
	my $cluster   = ElectorCluster->new(nodes => 2, plain => 1)->build;
	my $clients = $cluster->start_registers(registers => $registers);

	$cluster->stop_all('n1');
	$cluster->psql('n2', 'SELECT pg_promote()');
	$clients->wait_for_acks(100);
	my $since = now_us();
	$cluster->cont_all('n1');
	$cluster->poll_until(sub { 100 <= grep { $_->{node} eq 'n1' && $_->{sent} >= $since } $clients->acks }, 20, 'writes on n1');
	like($clients->verdict->{out}, qr/NOT linearizable\n(  .*\n)*  no place for/, 'without the library it is not');
	$cluster->teardown;
}

#
# With it.
#
my $cluster = ElectorCluster->new(
	nodes    => 3,
	ttl      => '3s',
	etcd_in_memory => 1,
	settings => { 'pg_elector.durability' => 'any 1' })->build;
my $clients = $cluster->start_registers(registers => $registers);
my $leader  = $cluster->leader;

# A fault of the leader, until another one leads; what its own clients saw then.
sub change
{
	my ($name, $begin, $end) = @_;
	my $old   = $leader;
	my $since = now_us();

	$begin->($old);
	$leader = $cluster->wait_for_leader(exclude => $old, timeout => 60);
	$clients->wait_for_acks(100);
	$end->($old);
	$cluster->poll_until(
		sub { grep { $_->{node} eq $old && $_->{at} >= $since && $_->{sqlstate} =~ /^(25006|57P0[123]|-----)$/ } $clients->errors },
		20, "$old to turn its clients away");
	is($cluster->wait_for_follower($old, 60), $leader, "$name: $leader leads, $old follows");
	return;
}

change('elector stopped', sub { $cluster->stop_worker($_[0]) }, sub { $cluster->cont_worker($_[0]) });
change('node stopped', sub { $cluster->stop_all($_[0]) }, sub { $cluster->cont_all($_[0]) });
foreach my $case (
	[ 'cut from everything', from => 'all' ],
	[ 'cut from etcd',       from => 'etcd' ],
	[ 'cut one way',         from => 'all', direction => 'out' ])
{
	my ($name, %cut) = @$case;
	change($name, sub { $cluster->cut($_[0], %cut) }, sub { $cluster->heal($_[0]) });
}
change('postmaster killed', sub { $cluster->kill_postmaster($_[0]) },
	sub { $cluster->wait_for_no_process($_[0]); $cluster->start($_[0]); $cluster->remember($_[0]) });

# The leader may stay the same.
my $term = $cluster->term($leader);
$cluster->psql($leader, 'SELECT elector_switchover()');
$cluster->poll_until(sub { my $new = $cluster->leader; defined $new && $cluster->term($new) > $term }, 30, 'another term');
$clients->wait_for_acks(100);
$leader = $cluster->wait_for_leader;
$cluster->wait_for_follower($_, 60) foreach grep { $_ ne $leader } $cluster->nodes;
pass("switchover: $leader leads");

$cluster->kill_one_backend($leader);
$clients->wait_for_acks(100);
$leader = $cluster->wait_for_leader;
$cluster->wait_for_follower($_, 60) foreach grep { $_ ne $leader } $cluster->nodes;
pass('a backend crashed');

# Without etcd it leads by promises; when nobody is left who promises, it closes.
$cluster->stop_all('e1');
$cluster->wait_for_status($leader, $leader, { state => 'open', detail => qr/^leads by the members' promises/ });
$clients->wait_for_acks(100);
my @promisers = grep { $_ ne $leader } $cluster->nodes;
$cluster->stop_all($_) foreach @promisers;
$cluster->wait_for_status($leader, $leader, { state => 'closed' });
$cluster->cont_all($_) foreach @promisers;
$clients->wait_for_acks(100);
$cluster->cont_all('e1');
$clients->wait_for_acks(100);
$leader = $cluster->wait_for_leader;
pass('etcd stopped');

# Nobody acknowledges, but reads go on.
$cluster->cut($leader, from => 'peers');
my $cut = now_us();
$cluster->poll_until(sub { !grep { $_->{acked} > now_us() - 1_000_000 } $clients->acks }, 20, 'writes to wait');
$cluster->heal($leader);
$clients->wait_for_acks(100);
pass('cut from its followers');

my $verdict = $clients->verdict;
my @counts = $verdict->{out} =~ /: (\d+) operations/g;
note($_) foreach split /\n/, $verdict->{out};
ok($verdict->{ok}, 'all that clients were told fits together') or diag($verdict->{out} . $verdict->{err});
is(scalar @counts, $registers, 'of all registers');
cmp_ok((sort { $a <=> $b } @counts)[0], '>', 300, 'and many operations on each');
$leader = $cluster->wait_for_leader;
$cluster->check_whole('in the end');
done_testing();
