-- The two roles and the database of one book, on a server of your own. Passwords come from files, never from the text:
-- psql reads them where it runs. The owner makes and alters tables; the service's role must be called onebook_app.
-- ONEBOOK_SECRETS names the folder of the two files; /run/secrets if it's unset.
\set ON_ERROR_STOP on
\set owner_password `cat "${ONEBOOK_SECRETS:-/run/secrets}/onebook_owner_password"`
\set app_password `cat "${ONEBOOK_SECRETS:-/run/secrets}/onebook_app_password"`
CREATE ROLE onebook_owner LOGIN PASSWORD :'owner_password';
CREATE ROLE onebook_app LOGIN PASSWORD :'app_password';
CREATE DATABASE onebook OWNER onebook_owner;
REVOKE ALL ON DATABASE onebook FROM PUBLIC;
GRANT CONNECT ON DATABASE onebook TO onebook_app;
