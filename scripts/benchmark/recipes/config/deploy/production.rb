# SSHKit runs what is for :local on this host, without ssh, so that no ssh is in the number.
server :local, roles: [:app]
