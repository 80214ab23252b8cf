-- The rules that no CHECK and no reference can say.

CREATE FUNCTION refuse() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
  RAISE check_violation USING MESSAGE = TG_ARGV[0];
END $$;

CREATE TRIGGER tenants_id_never_changes BEFORE UPDATE ON tenants FOR EACH ROW
  WHEN (NEW.id <> OLD.id)
  EXECUTE FUNCTION refuse('tenants.id: never changes; delete the tenant and insert another');

CREATE TRIGGER tenants_incarnation_never_changes BEFORE UPDATE ON tenants FOR EACH ROW
  WHEN (NEW.incarnation <> OLD.incarnation)
  EXECUTE FUNCTION refuse('tenants.incarnation: never changes');

CREATE TRIGGER tenant_accounts_never_change BEFORE UPDATE ON tenant_accounts FOR EACH ROW
  WHEN (NEW.tenant_id <> OLD.tenant_id OR NEW.account <> OLD.account)
  EXECUTE FUNCTION refuse('tenant_accounts: the account of a tenant never changes');

-- TRUNCATE passes by what notes the end of each row.
CREATE TRIGGER tenants_truncate BEFORE TRUNCATE ON tenants
  EXECUTE FUNCTION refuse('tenants: TRUNCATE would go unnoticed; DELETE the rows');
CREATE TRIGGER users_truncate BEFORE TRUNCATE ON users
  EXECUTE FUNCTION refuse('users: TRUNCATE would go unnoticed; DELETE the rows');
CREATE TRIGGER tokens_truncate BEFORE TRUNCATE ON tokens
  EXECUTE FUNCTION refuse('tokens: TRUNCATE would go unnoticed; DELETE the rows');
CREATE TRIGGER tenant_accounts_truncate BEFORE TRUNCATE ON tenant_accounts
  EXECUTE FUNCTION refuse('tenant_accounts: TRUNCATE would go unnoticed; DELETE the rows');
CREATE TRIGGER changes_truncate BEFORE TRUNCATE ON changes
  EXECUTE FUNCTION refuse('changes: TRUNCATE would go unnoticed; DELETE the rows');

-- The users go before the account in which their connections are alive, while it is still known.
CREATE FUNCTION delete_users() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
  DELETE FROM users WHERE tenant_id = OLD.id;
  RETURN OLD;
END $$;
CREATE TRIGGER tenants_delete_users BEFORE DELETE ON tenants FOR EACH ROW
  EXECUTE FUNCTION delete_users();
