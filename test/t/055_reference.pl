# docs/reference.md is what the server says of itself: each setting, each SQL object and
# each of its columns, and the program's usage.  What has no description fails, too.
use strict;
use warnings;

use Cwd qw(abs_path);
use ElectorCluster;
use ElectorProcess qw(must_run);
use File::Basename qw(dirname);
use Test::More;

my $docs    = abs_path(dirname(abs_path(__FILE__)) . '/../../docs');
my $cluster = ElectorCluster->new(nodes => 1)->build;

sub ask { return $cluster->psql('n1', $_[0]) }

my $page = must_run({}, $^X, "$docs/reference.pl", $cluster->bindir, $cluster->conninfo('n1'));
write_file("$docs/reference.md", $page) if $ENV{ELECTOR_WRITE_REFERENCE};
is(read_file("$docs/reference.md"), $page, 'the page is what the server says (else: ELECTOR_WRITE_REFERENCE=1)');

# Nothing is missing there, nor left without a word.
foreach my $setting (split /\n/, ask(q{SELECT name FROM pg_settings WHERE name LIKE 'pg\_elector.%'}))
{
	like($page, qr/^### `\Q$setting\E`\n\n\S/m, "$setting is there, with a description");
}
is(ask(q{SELECT coalesce(string_agg(name, ' '), '') FROM pg_settings WHERE name LIKE 'pg\_elector.%' AND coalesce(short_desc, '') = ''}), '',
	'no setting lacks a description');

my $members = q{SELECT d.objid, d.classid FROM pg_depend AS d JOIN pg_extension AS e
	ON d.refobjid = e.oid AND d.refclassid = 'pg_extension'::regclass
	WHERE e.extname = 'pg_elector' AND d.deptype = 'e'};
foreach my $name (split /\n/, ask("SELECT coalesce(p.proname, c.relname) FROM ($members) AS m
		LEFT JOIN pg_proc AS p ON p.oid = m.objid AND m.classid = 'pg_proc'::regclass
		LEFT JOIN pg_class AS c ON c.oid = m.objid AND m.classid = 'pg_class'::regclass
		WHERE coalesce(p.proname, c.relname) IS NOT NULL"))
{
	like($page, qr/^(?:### |\| )`\Q$name\E[`(]/m, "$name is there");
}
is(ask("SELECT count(*) FROM ($members) AS m WHERE obj_description(m.objid, (SELECT relname FROM pg_class WHERE oid = m.classid)) IS NULL
		AND m.classid IN ('pg_proc'::regclass, 'pg_class'::regclass)"), 0, 'each has a comment');
is(ask("SELECT count(*) FROM ($members) AS m JOIN pg_attribute AS a ON a.attrelid = m.objid
		WHERE m.classid = 'pg_class'::regclass AND a.attnum > 0 AND col_description(a.attrelid, a.attnum) IS NULL"), 0,
	'and each column');

# What other pages name is there, too: a setting or a function that is gone or called otherwise.
my %known = map { $_ => 1 } split /\n/, ask(q{SELECT name FROM pg_settings WHERE name LIKE 'pg\_elector.%'});
my %functions = map { $_ => 1 } split /\n/, ask("SELECT coalesce(p.proname, c.relname) FROM ($members) AS m
		LEFT JOIN pg_proc AS p ON p.oid = m.objid AND m.classid = 'pg_proc'::regclass
		LEFT JOIN pg_class AS c ON c.oid = m.objid AND m.classid = 'pg_class'::regclass
		WHERE coalesce(p.proname, c.relname) IS NOT NULL");
foreach my $file (glob("$docs/*.md"), "$docs/../README.md")
{
	my $text  = read_file($file);
	my $name  = $file =~ s{.*/}{}r;
	my %wrong = map { $_ => 1 } grep { !$known{$_} } $text =~ /\b(pg_elector\.(?!conf\b|service\b|pl\b|c\b|d\b|control\b|md\b)[a-z]\w*)/g;
	my %missing = map { $_ => 1 } grep { !$functions{$_} } $text =~ /\b(elector_\w+)(?=\()/g;
	delete $wrong{'pg_elector.generation'};    # the library's own, and named as such
	is(join(' ', sort keys %wrong), '', "$name names no setting that is not there");
	is(join(' ', sort keys %missing), '', "$name names no function that is not there");

	# Links lead somewhere.
	my $base = dirname($file);
	my @dead = grep { !/^https?:/ && !-e "$base/" . s/#.*//r } $text =~ /\]\(([^)#][^)]*)\)/g;
	is("@dead", '', "$name has no dead links");
}

done_testing();
