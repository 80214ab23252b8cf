-- The service's own role and database, once, when the volume of PostgreSQL is new. The role owns
-- the database, since the service makes its tables and migrates them.
\getenv password NATS_CALLOUT_PASSWORD
CREATE ROLE nats_callout LOGIN PASSWORD :'password';
CREATE DATABASE nats_callout OWNER nats_callout;
REVOKE ALL ON DATABASE nats_callout FROM PUBLIC;
