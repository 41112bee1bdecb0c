# ElectorPki.pm
#
# Certificates for tests, made with openssl: CAs, servers, clients, expired ones.
#
#   my $pki = ElectorPki->new($directory, $uid, $gid);
#   $pki->make_ca('ca');
#   $pki->issue('e1', ca => 'ca', names => [ 'IP:10.99.0.51' ], usage => 'serverAuth,clientAuth');
#   $pki->cert('e1'), $pki->key('e1')
#
# Files belong to the servers' user, and are replaced by renaming, as a real
# rotation does.

package ElectorPki;

use strict;
use warnings;

use ElectorProcess qw(must_run write_file);
use POSIX qw(strftime);

my @key = ('-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes');

sub new
{
	my ($class, $directory, $uid, $gid) = @_;
	my $self = bless { directory => $directory, uid => $uid, gid => $gid }, $class;

	mkdir $directory, 0755;
	mkdir "$directory/issued", 0755;
	chown $uid, $gid, $directory;
	write_file("$directory/index.txt", '');
	write_file("$directory/serial",    "1000\n");
	write_file("$directory/ca.cnf",    <<"END");
[ca]
default_ca = test
[test]
database = $directory/index.txt
serial = $directory/serial
new_certs_dir = $directory/issued
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = optional
organizationName = optional
END
	return $self;
}

sub cert { my ($self, $name) = @_; return "$self->{directory}/$name.crt" }
sub key  { my ($self, $name) = @_; return "$self->{directory}/$name.key" }

sub make_ca
{
	my ($self, $name) = @_;
	must_run({}, 'openssl', 'req', '-x509', @key, '-keyout', $self->key($name), '-out',
		$self->cert($name), '-subj', "/CN=$name", '-days', 30);
	return $self->_give($self->cert($name), $self->key($name));
}

# Options: ca, subject (/CN=name), names (subject alternative names), usage (extended key usage), from
# and until (seconds from now; -86400, 86400).
sub issue
{
	my ($self, $name, %opts) = @_;
	my $request = "$self->{directory}/$name.csr";
	my @extensions;

	push @extensions, 'subjectAltName=' . join(',', @{ $opts{names} }) if $opts{names};
	push @extensions, "extendedKeyUsage=$opts{usage}" if $opts{usage};
	write_file("$request.ext", join '', map { "$_\n" } @extensions);
	must_run({}, 'openssl', 'req', @key, '-keyout', $self->key($name) . '.new', '-out', $request,
		'-subj', $opts{subject} // "/CN=$name");
	must_run({}, 'openssl', 'ca', '-batch', '-notext', '-config', "$self->{directory}/ca.cnf",
		'-cert', $self->cert($opts{ca}), '-keyfile', $self->key($opts{ca}),
		'-in', $request, '-out', $self->cert($name) . '.new', '-extfile', "$request.ext",
		'-startdate', _date($opts{from} // -86400), '-enddate', _date($opts{until} // 86400));
	$self->_give($self->cert($name) . '.new', $self->key($name) . '.new');
	$self->install($name);
	return;
}

sub _date { return strftime('%Y%m%d%H%M%SZ', gmtime(time + $_[0])) }

sub install
{
	my ($self, $name) = @_;
	foreach my $file ($self->key($name), $self->cert($name))
	{
		rename "$file.new", $file or die "could not rename $file: $!\n";
	}
	return;
}

# What is under one name is now also under another, in its place.
sub copy
{
	my ($self, $from, $to) = @_;
	foreach my $pair ([ $self->key($from), $self->key($to) ], [ $self->cert($from), $self->cert($to) ])
	{
		must_run({}, 'cp', '-p', $pair->[0], "$pair->[1].new");
	}
	$self->install($to);
	return;
}

sub _give
{
	my ($self, @files) = @_;
	foreach my $file (@files)
	{
		chmod $file =~ /\.key/ ? 0600 : 0644, $file;
		chown $self->{uid}, $self->{gid}, $file;
	}
	return;
}

1;
