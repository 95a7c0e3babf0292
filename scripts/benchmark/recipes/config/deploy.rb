# Capistrano's own tasks do the fetch, the tree, the link and the removal of old releases.
set :application, "shop"
set :repo_url, ENV.fetch("REPOSITORY")
set :branch, "main"
set :deploy_to, ENV.fetch("ROOT")
set :tmp_dir, "#{ENV.fetch("ROOT")}/tmp"
set :keep_releases, ENV.fetch("KEEP").to_i
set :format_options, color: false, log_file: "#{ENV.fetch("ROOT")}/capistrano.log"

namespace :django do
  task :build do
    on roles(:app) do
      within release_path do
        execute ENV.fetch("PYTHON"), "-m", "venv", "venv"
        execute "venv/bin/pip", "install", "--quiet", "-r", "requirements.txt"
        execute :mkdir, "staticfiles"
        execute "venv/bin/python", "manage.py", "check", "--deploy"
        execute "venv/bin/python", "manage.py", "collectstatic", "--noinput"
        execute "venv/bin/python", "manage.py", "migrate", "--noinput"
      end
    end
  end
end

after "deploy:updated", "django:build"
