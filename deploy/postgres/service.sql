-- The service's own roles, for an empty database in UTF-8. Run it once as the database's owner or a
-- superuser, in the schema that is to hold the tables (the first one of the search path):
--
--   psql -d nats_callout -f deploy/postgres/service.sql
--
-- Then give the roles passwords: \password nats_callout_owner, \password nats_callout
--
-- nats_callout_owner makes and migrates the tables: any command of nats-callout with its URL does
-- so, `nats-callout list` for instance, also after an upgrade, before the instances are replaced.
-- nats_callout is what the instances log in as.

DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'nats_callout_owner') THEN
    CREATE ROLE nats_callout_owner LOGIN;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'nats_callout') THEN
    CREATE ROLE nats_callout LOGIN;
  END IF;
  -- A time that is written without an offset is one in UTC, whoever writes it with psql.
  EXECUTE format('ALTER DATABASE %I SET timezone = %L', current_database(), 'UTC');
  -- Others may have been shut out of the database.
  EXECUTE format('GRANT CONNECT ON DATABASE %I TO nats_callout_owner, nats_callout',
    current_database());
  EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
  EXECUTE format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC', current_schema());
  EXECUTE format('GRANT USAGE, CREATE ON SCHEMA %I TO nats_callout_owner', current_schema());
  EXECUTE format('GRANT USAGE ON SCHEMA %I TO nats_callout', current_schema());
  -- For the tables that the owner makes from now on.
  EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE nats_callout_owner IN SCHEMA %I '
    'GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO nats_callout', current_schema());
END $$;
